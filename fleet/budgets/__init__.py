"""Budgets: how fast a provider's queue may dispatch calls, decided over the whole fleet.

``bucket``    one limit as the fleet believes it to be: level, refill, what others take. No I/O.
``breaker``   what a provider's failures mean for its queue. No I/O.
``machines``  which machines reach the provider. No I/O.
``ramp``      bounds a rate after a start, a rest or trouble. No I/O.
``budget``    all limits of one queue together: reports in, a rate out. No I/O.
``unheard``   calls that processes have yet to tell of. No I/O.
``report_intake``   which reports tell of the present. No I/O.
``describe``  a budget as an operator wants to see it. No I/O.
``workflow``  runs a budget durably and sets the queue's rate.
``queues``    the calls to the Temporal server behind that.
``reporter``  tells a budget what one process did: ``news``, gathered between two reports.
``allowance`` how often one process may report. No I/O.
``watch``     how a budget stands, as one process sees it, and what its gate is told.
``gate``      holds single calls back within a process, where a rate is too coarse.
``mixing``    notices models of different limits that share a queue.
``costs``     what a call costs of each limit, before and after it.
``reports``   what crosses Temporal between all these.
"""

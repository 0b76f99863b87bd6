"""Budgets: how fast a provider's queue may dispatch calls, decided for the whole fleet.

``law/``, the control law, without I/O:

``bucket``            one limit as the fleet estimates it: level, refill, external usage.
``external_usage``    what others certainly take of it.
``breaker``           what a provider's failures mean for its queue.
``cut_off_machines``  which machines do not reach the provider.
``known_machines``    which machines have reported to the budget, and when.
``ramp``              bounds a rate after a start, an idle time or failures.
``budget``            all limits of one queue together: reports in, a rate out.
``unreported_calls``  calls that processes have not reported yet.
``report_intake``     which reports describe the present.
``budget_status``     a budget as an operator wants to see it.

On the control queue and for operators:

``workflow``           runs a budget durably and sets the queue's rate.
``queue_client``       the calls to the Temporal server for that.
``messages``           what crosses Temporal between all these.
``limits_and_pauses``  status, limits, pause and resume.

``worker/``, in each worker process:

``admission``                  the path of a call through costs, gate and report.
``reporter``                   reports to the budget what one process did; ``report_builder`` collects it.
``report_rate``                how often one process may report.
``budget_watch``               the budget's status as one process sees it.
``gate``                       holds single calls back within a process, where a rate is too coarse.
``models_without_quota``       models without quota, whose calls go back unsent.
``models_with_unlike_limits``  detects models with different limits that share a queue.
``oversize``                   requests larger than a limit's whole minute.
``call_costs``                 what a call costs of each limit, before and after it.
``limit_headers``              what a provider's headers say about its limits.
"""

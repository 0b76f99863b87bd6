"""What one machine shows of its fleet, to Prometheus, to the page and to ``fleet top``.

``counted``   what its processes have counted, from their files.
``runs``      the pipelines, as the Temporal server lists them.
``observer``  all of it together, looked at no more often than it is asked for.
``trail``     what it was over the last hour and since midnight.
``troubles``  the latest errors in the logs.
``picture``   one JSON object out of all these.
``detail``    one pipeline, opened.
``streams``   the pictures, pushed to everybody who looks.
"""

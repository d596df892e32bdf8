"""A container whose changes are known: 5,000 benign ones, and planted ones over ATT&CK techniques; and what finds how many of them.

``image``: what lies on top of the image.  ``inside``: scripts that run in the container.  ``stage``: runs them.  ``truth``: what was planted
(``truth.yaml``).  ``score``: precision and recall of an ``irkit diff --json``.  ``exports``: a plain compare of two exports.

All of it is benign: nothing connects anywhere, and no planted program is run but copies of busybox as ``sleep`` and one as a web server.
"""

"""A scripted server whose send times are known exactly: proof that what the client reports is what the server did.

`TruthServer` (client.py) starts it in a process of its own; a request picks a `Scenario` (scenario.py) from the
catalogue (catalogue.py) or brings one along; the log (records.py) says when each event was handed to the kernel, and
compare.py how far from that the client's report is.
"""

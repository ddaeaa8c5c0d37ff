"""The tool against a server whose send times are known: what is reported wrongly, how far off are the times, and up to
which load does this machine measure well?
"""

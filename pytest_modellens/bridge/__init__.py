"""Amplifier's provider modules, seen from outside: found, mounted, measured, checked.

Nothing here imports amplifier_core before it is asked to: it is an extra. Our own modules are in
`pytest_modellens.amplifier`.
"""

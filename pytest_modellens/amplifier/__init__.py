"""Our providers as modules of Amplifier sessions; the packages `amplifier_module_provider_modellens_*` export them.

Importing anything below imports amplifier_core, the extra `amplifier`.
"""

"""How settings are declared once and written three ways: a flag, a key of a configuration file, a line of the help.

declared   an option, and the options of a settings class
values     text → value
errors     what a person reads when it can't be
"""

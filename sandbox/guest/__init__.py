"""What runs inside a sandbox: Python 3.8 and later, standard library only, relative imports only.

The spawner copies this package into every runtime's root as /var/runtime/lambent_guest; nothing here may know its own name.
"""

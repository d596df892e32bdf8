"""Recovery: a clean container in place of the compromised one."""

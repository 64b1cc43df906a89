"""The engine as a service: cases come in once, jobs run in a process that may die, results stay."""

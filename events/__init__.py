"""The domain, pure: facts, commands, and the rules that lead from one to the other."""

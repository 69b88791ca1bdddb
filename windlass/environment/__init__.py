"""What an environment is: the typed model of envs/, loading, validation."""

"""The command line. Each command is a client of the Lambda API, save `up`, which starts what answers it."""

"""The shell around the scheduler: feeds it events, performs its commands, owns every sandbox and every task."""

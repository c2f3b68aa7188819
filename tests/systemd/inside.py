"""What is tried in the emulated machine. With words, what has one of them in its name."""

import sys

import trial

# In this order: the package is there for all but the last.
import service
import limits
import keep
import memory
import package

trial.run_checks(sys.argv[1:])

"""What is learned: plain torch, one network a file, no I/O. contract.py alone imports no torch."""

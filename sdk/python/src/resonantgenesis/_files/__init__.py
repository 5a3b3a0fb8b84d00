"""Files: the calls, the download machine and the files on this machine."""

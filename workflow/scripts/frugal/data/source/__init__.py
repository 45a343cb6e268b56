"""Transport: download, check and unpack the files of a data set or model."""

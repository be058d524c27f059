"""Networks: one file a paper. The file name is the first part of a model's name: `litepose-xs` -> litepose.py."""

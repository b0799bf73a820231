"""Export a trained network to files that other programs run, each checked before it is published.

exported_network   a network that takes uint8 clips, and the facts that its file tells
clip_axes          which frames and sizes an exported network takes, and clips to check it with
onnx_recurrence    recurrent layers as the operators LSTM and GRU of ONNX
formats            write and read safetensors, torch.export's and ONNX files
agreement          compare a file's answers with those of the checkpoint
publishing         export, check and publish the files that run.export is asked for
"""

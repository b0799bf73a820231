"""What `run.predict` and `run.recogniser` compute, draw and write.

- `segments`: from scores over time to segments of one class each
- `timeline`: the scores of a long video, window by window, in bounded memory
- `stream_reader`, `live`: read cameras and streams, recognise actions in them while they run
- `prediction_files`: write answers as json, segments as csv and srt
- `timeline_picture`, `annotated_film`: draw a timeline, write the video with its scores
"""

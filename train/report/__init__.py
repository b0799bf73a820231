"""The html report of a run, `report.html` in its results folder.

page                 an html page that needs no other file; pictures and text in it
charts               lines, areas and the confusion matrix as svg and png
prediction_scores    confusion matrix, intervals, confused pairs, the worst predictions
film_strips          frames of a run's clips as small JPEGs, and their html
run_files            read what the results folder holds
training_sections    the page's parts about training: command, curves, schedule, time, gates
validation_sections  the page's parts about the last validation
run_report           compose the page and write it
"""

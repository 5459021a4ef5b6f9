"""An experiment as it is written for Google's cloud."""

import json
import sys

from google.cloud import aiplatform

aiplatform.init(project="acme-prod", location="us-central1", experiment="attempts", **json.loads(sys.argv[1]))
with aiplatform.start_run("first"):
    aiplatform.log_params({"rate": 0.1})
    aiplatform.log_metrics({"accuracy": 0.75})
    aiplatform.log_time_series_metrics({"loss": 0.5})
table = aiplatform.get_experiment_df("attempts")
aiplatform.Experiment("attempts").delete(delete_backing_tensorboard_runs=True)
print(table.iloc[0].to_json())

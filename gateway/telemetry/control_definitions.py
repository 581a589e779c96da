"""The metrics of the control plane: configuration, discovery, plans, loops. Data only."""

from gateway.telemetry.metric import Metric, metrics_in

RELOADED = Metric(
    "cuvee_config_last_reload_successful",
    "gauge",
    "1 if the configuration file is in force as it was read last, 0 if it cannot be used.",
)
RELOADED_AT = Metric(
    "cuvee_config_last_reload_success_timestamp_seconds",
    "gauge",
    "When the configuration file was last read and could be used, in seconds since 1970.",
)
DISCOVERY_AGE = Metric(
    "cuvee_discovery_age_seconds",
    "gauge",
    "Time since the last good look of a source of backends, or since the start if there was none.",
    ("source",),
)
DISCOVERY_FAILURES = Metric(
    "cuvee_discovery_failures_total",
    "counter",
    "Looks of a source of backends that failed; the backends that it told last stay.",
    ("source",),
)
DISCOVERED = Metric(
    "cuvee_discovered_backends",
    "gauge",
    "Backends that the source of the pool has found, those of the configuration not among them.",
    ("pool",),
)
PLANS = Metric("cuvee_plans_total", "counter", "Plans put in force since the start.")
DESIRED_BACKENDS = Metric(
    "cuvee_desired_backends",
    "gauge",
    "Backends that the pool is to have: as they were ordered last where it has `scale` (missing "
    "until then), else those that the plan in force uses.",
    ("pool",),
)
PLANNED_LOAD = Metric(
    "cuvee_planned_load",
    "gauge",
    "Mean load of the pool's backends under the plan in force.",
    ("pool",),
)
PLAN_USD = Metric("cuvee_plan_usd_per_hour", "gauge", "Cost of the plan in force.")
PLAN_BOUND_USD = Metric(
    "cuvee_plan_lower_bound_usd_per_hour",
    "gauge",
    "Lower bound on the cost of any plan for the same demand, by the fluid relaxation.",
)
SINGLE_USD = Metric(
    "cuvee_single_type_usd_per_hour",
    "gauge",
    "Cost of the cheapest fleet of one GPU type that serves the plan's demand as well; missing "
    "where no type alone can, or while it is not computed.",
    ("gpu",),
)
RUNNING_USD = Metric(
    "cuvee_running_usd_per_hour",
    "gauge",
    "Cost of the pool's backends that the gateway knows now, those that are drained or asleep "
    "among them; reserved ones are paid for already.",
    ("pool",),
)
ASLEEP_USD = Metric(
    "cuvee_asleep_usd_per_hour",
    "gauge",
    "What backends that sleep cost beside the others: no plan counts it.",
)
PLAN_SOLVE_S = Metric(
    "cuvee_plan_solve_seconds", "gauge", "Time that the solver took for the plan in force."
)
PLAN_TIME = Metric(
    "cuvee_plan_timestamp_seconds",
    "gauge",
    "Unix time at which the plan in force was put in force; its age is `time() -` this.",
)
LOOKS = Metric(
    "cuvee_plan_looks_total", "counter", "Looks at the demand, by what came of them.", ("result",)
)
LAST_SOLVE = Metric(
    "cuvee_last_solve_timestamp_seconds", "gauge", "Unix time at which the solver last answered."
)
LOOP_GOOD = Metric(
    "cuvee_loop_last_success_timestamp_seconds",
    "gauge",
    "When the loop of the control plane last did its work, in seconds since 1970; its age is "
    "`time() -` this.",
    ("loop",),
)
LOOP_FAILURES = Metric(
    "cuvee_loop_failures_total",
    "counter",
    "Times that the loop could not do its work; the log and `/cuvee/loops` have the reason.",
    ("loop",),
)
LOOP_FAILING = Metric(
    "cuvee_loop_failing", "gauge", "1 if the loop failed and has not succeeded since.", ("loop",)
)
CLUSTER_UP = Metric(
    "cuvee_cluster_up",
    "gauge",
    "Whether Redis answers, by which the gateways of a cluster know of each other; 0: this one "
    "serves with its last plan and its own view.",
)
CLUSTER_FAILURES = Metric(
    "cuvee_cluster_failures_total", "counter", "Questions to Redis that it did not answer in time."
)
CLUSTER_LEADS = Metric(
    "cuvee_cluster_leads", "gauge", "Whether this gateway plans for all: 1 at one of them."
)
CLUSTER_GATEWAYS = Metric(
    "cuvee_cluster_gateways", "gauge", "Gateways of the cluster that are known, this one included."
)
CLUSTER_VIEW_AGE = Metric(
    "cuvee_cluster_view_age_seconds",
    "gauge",
    "Age of what this gateway knows of another one's load, of the one that it is greatest for; "
    "0 without another one.",
)
CLUSTER_FOLLOWS = Metric(
    "cuvee_cluster_follows",
    "gauge",
    "0 if the plan of the gateway that plans cannot be used here: it is for another configuration, "
    "or of another version.",
)
SCALE_THERE = Metric(
    "cuvee_scale_backends",
    "gauge",
    "Backends of the pool that count: not drained, not long down, not asleep.",
    ("pool",),
)
SCALE_ASLEEP = Metric(
    "cuvee_scale_asleep_backends",
    "gauge",
    "Backends of the pool that sleep and obey, or are on their way to sleep.",
    ("pool",),
)
SCALE_NEEDED = Metric(
    "cuvee_scale_needed_backends",
    "gauge",
    "Backends of the pool in the cheapest fleet for the demand that is expected.",
    ("pool",),
)
SCALE_PENDING = Metric(
    "cuvee_scale_pending_backends",
    "gauge",
    "Backends of the pool that were ordered and are not ready.",
    ("pool",),
)
SCALE_DRAINING = Metric(
    "cuvee_scale_draining_backends", "gauge", "Backends of the pool that are drained.", ("pool",)
)
SCALE_CAP = Metric(
    "cuvee_scale_cap_gpus",
    "gauge",
    "GPUs of the pool's type that are taken for all that there are, because a launch failed or "
    "hangs; no sample while no limit was learned.",
    ("pool",),
)
SCALE_ORDERS = Metric(
    "cuvee_scale_orders_total",
    "counter",
    "Orders of backends, by what came of them.",
    ("pool", "result"),
)
SCALE_LAUNCHES = Metric(
    "cuvee_scale_launches_total",
    "counter",
    "Backends that were ordered and accepted, by what came of them.",
    ("pool", "result"),
)
STARTUP = Metric(
    "cuvee_scale_startup_seconds",
    "gauge",
    "Mean time from the order of a backend until it is ready: as configured, then as learned.",
    ("pool",),
)
KV_CONNECTED = Metric(
    "cuvee_kv_events_connected",
    "gauge",
    "1 if the publishers of all ranks of the backend's engine are there, else 0.",
    ("backend", "pool"),
)
KV_HELD = Metric(
    "cuvee_kv_held_tokens",
    "gauge",
    "Tokens in the prefix cache of the backend's engine, on the device and of all ranks, by its "
    "events; no sample while something was missed.",
    ("backend", "pool"),
)
KV_EVENTS = Metric(
    "cuvee_kv_events_total", "counter", "KV events of the backend's engine.", ("backend", "pool")
)
KV_GAPS = Metric(
    "cuvee_kv_event_gaps_total",
    "counter",
    "Times that batches of KV events were missing, also where they were replayed then.",
    ("backend", "pool"),
)

METRICS = metrics_in(globals())

"""Each rule on a real API server: specs just inside are accepted, others are refused with the rule's sentence."""

from __future__ import annotations

from typing import Any

import pytest

TWO_GPUS = {"parallelism.gpusPerReplica": 2, "parallelism.degree": {"sequence": 2, "tensor": 1}}
ONE_GPU = {"parallelism.gpusPerReplica": 1, "parallelism.degree": {"sequence": 1, "tensor": 1}}
ENGINE_OWN = (
    "template.spec.containers: of the container engine only volumeMounts and securityContext can be set here; its "
    "image, args, env and resources are in engine, its command and ports are the operator's"
)
INIT = "template.spec.initContainers: a container needs an image and a name that no other has, nor engine"
TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"team": "search"}, "annotations": {"sidecar.istio.io/inject": "false"}},
    "spec": {
        "containers": [
            {
                "name": "engine",
                "volumeMounts": [{"name": "templates", "mountPath": "/etc/shift-templates", "readOnly": True}],
                "securityContext": {"runAsUser": 2000},
            },
            {
                "name": "logs",
                "image": "example.com/logs@sha256:" + "0" * 64,
                "env": [{"name": "HF_HOME", "value": "/x"}],
                "ports": [{"name": "metrics", "containerPort": 9000}],
                "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "128Mi"}},
            },
        ],
        "initContainers": [{"name": "proxy", "image": "example.com/proxy:1", "restartPolicy": "Always"}],
        "volumes": [{"name": "templates", "configMap": {"name": "templates"}}],
        "securityContext": {"supplementalGroups": [1001]},
        "runtimeClassName": "nvidia",
    },
}
SLO = {"ttft": {"milliseconds": 800}}
LABEL = {"matchLabels": {"app": "x"}}
IMAGE = (
    "engine.image needs a tag other than latest, or a digest, since two replicas of one spec must run the same engine; "
    "write for example ghcr.io/shiftparallel/shift-engine:0.1.0"
)
URI = "model.uri must be hf://org/name, pvc://claim/path, file:///path or s3://bucket/path"
OWNED_ENV = (
    "engine.env: HF_HOME, HF_TOKEN, POD_* and SHIFT_TERMINATION_LOG are set by the operator; remove them, and use "
    "model.cache and model.tokenSecretRef"
)

BAD: list[tuple[dict[str, Any], str, str]] = [
    # parallelism
    (
        {"parallelism.degree": {"sequence": 3, "tensor": 2}},
        "spec.parallelism.degree",
        "parallelism.degree: sequence 3 x tensor 2 is 6, gpusPerReplica is 8; choose a pair whose product is 8",
    ),
    (
        {"parallelism.degreeCandidates": [{"sequence": 8, "tensor": 1}]},
        "spec.parallelism.degreeCandidates",
        "parallelism.degreeCandidates lacks parallelism.degree, sequence 4 x tensor 2; add it, since engines start "
        "with it",
    ),
    *(
        (
            {"parallelism.degreeCandidates": [{"sequence": 4, "tensor": 2}, bad]},
            "spec.parallelism.degreeCandidates",
            "parallelism.degreeCandidates: each needs a sequence above 1 and sequence x tensor 8; small steps run with "
            "tensor parallelism over all GPUs anyway",
        )
        for bad in ({"sequence": 1, "tensor": 8}, {"sequence": 2, "tensor": 2})
    ),
    (
        {"parallelism.degree": {"sequence": 0, "tensor": 8}},
        "spec.parallelism.degree.sequence",
        "greater than or equal to 1",
    ),
    (
        {"parallelism.degree": {"sequence": 8, "tensor": 0}},
        "spec.parallelism.degree.tensor",
        "greater than or equal to 1",
    ),
    ({"parallelism.gpusPerReplica": 0}, "spec.parallelism.gpusPerReplica", "greater than or equal to 1"),
    ({"parallelism.gpusPerReplica": 65}, "spec.parallelism.gpusPerReplica", "less than or equal to 64"),
    ({"parallelism.degree": ...}, "spec.parallelism.degree", "Required value"),
    ({"parallelism": ...}, "spec.parallelism", "Required value"),
    ({"parallelism.gpusPerReplica": "8"}, "spec.parallelism.gpusPerReplica", 'must be of type integer: "string"'),
    # shift
    (
        {"shift": {"thresholdTokens": 2000, "thresholdRange": {"min": 16, "max": 1024}}},
        "spec.shift.thresholdTokens",
        "shift.thresholdTokens 2000 is outside shift.thresholdRange 16..1024; write a number within the range, or "
        "widen the range",
    ),
    (
        {"shift": {"thresholdTokens": 15}},
        "spec.shift.thresholdTokens",
        "shift.thresholdTokens 15 is outside shift.thresholdRange 16..8192; write a number within the range, or "
        "widen the range",
    ),
    (
        {"shift": {"thresholdTokens": 600, "thresholdRange": {"min": 600, "max": 500}}},
        "spec.shift.thresholdRange.min",
        "shift.thresholdRange: min 600 is above max 500; swap them or raise max",
    ),
    ({"shift.mode": "Sometimes"}, "spec.shift.mode", 'supported values: "Auto", "Fixed", "TensorOnly", "SequenceOnly"'),
    ({"shift.thresholdRange": {"min": 0}}, "spec.shift.thresholdRange.min", "greater than or equal to 1"),
    ({"shift.thresholdRange": {"max": 131073}}, "spec.shift.thresholdRange.max", "less than or equal to 131072"),
    (
        ONE_GPU,
        "spec.shift.mode",
        "shift.mode Auto needs parallelism.degree.sequence above 1, there is nothing to shift to; write shift.mode: "
        "TensorOnly, or a larger sequence",
    ),
    (
        {"parallelism.degree": {"sequence": 1, "tensor": 8}, "shift.mode": "SequenceOnly"},
        "spec.shift.mode",
        "shift.mode SequenceOnly needs parallelism.degree.sequence above 1, there is nothing to shift to; write "
        "shift.mode: TensorOnly, or a larger sequence",
    ),
    # model
    ({"model.uri": "org/name"}, "spec.model.uri", URI),
    ({"model.uri": "hf://name"}, "spec.model.uri", URI),
    ({"model.uri": "hf://org/name/file"}, "spec.model.uri", URI),
    ({"model.uri": "s3://Bucket/key"}, "spec.model.uri", URI),
    ({"model.uri": "s3://bucket/../key"}, "spec.model.uri", URI),
    ({"model.uri": "gs://bucket/key"}, "spec.model.uri", URI),
    ({"model.uri": "file://models/tiny"}, "spec.model.uri", URI),
    ({"model.uri": "file:///models/../etc"}, "spec.model.uri", URI),
    ({"model.uri": "pvc:///path"}, "spec.model.uri", URI),
    ({"model.uri": "pvc://Claim/path"}, "spec.model.uri", URI),
    ({"model.uri": "hf://org/name --trust-remote-code"}, "spec.model.uri", URI),
    ({"model": {}}, "spec.model.uri", "Required value"),
    (
        {"model.name": "--help"},
        "spec.model.name",
        "model.name must start with a letter or digit and hold only letters, digits and . _ : / -; write what clients "
        'will send as "model", for example llama-3.1-8b',
    ),
    (
        {"model.revision": "a b"},
        "spec.model.revision",
        "model.revision must be a commit, tag or branch; write for example a commit hash",
    ),
    (
        {"model": {"uri": "file:///m", "revision": "abc"}},
        "spec.model.revision",
        "model.revision only applies to hf:// models; remove it, or put the version into the path",
    ),
    (
        {"model": {"uri": "pvc://claim/m", "tokenSecretRef": {"name": "hf", "key": "token"}}},
        "spec.model.tokenSecretRef",
        "model.tokenSecretRef only applies to hf:// models; remove it",
    ),
    (
        {"model": {"uri": "pvc://claim/m", "cache": {"claimName": "c"}}},
        "spec.model.cache",
        "model.cache keeps downloads of hf:// models; remove it, others are read in place",
    ),
    (
        {"model.cache": {"claimName": "c", "subPath": "../other"}},
        "spec.model.cache.subPath",
        "model.cache.subPath must be a relative path without '..'; write for example 'huggingface'",
    ),
    (
        {"model": {"uri": "file:///m", "s3": {"region": "eu-central-1"}}},
        "spec.model.s3",
        "model.s3 only applies to s3:// models; remove it",
    ),
    (
        {"model": {"uri": "s3://models/m", "cache": {"claimName": "c"}}},
        "spec.model.cache",
        "model.cache keeps downloads of hf:// models; remove it, others are read in place",
    ),
    *(
        (
            {"model": {"uri": "s3://models/m", "s3": {"endpointURL": url}}},
            "spec.model.s3.endpointURL",
            "model.s3.endpointURL must be http:// or https:// with a host and at most a port; write for example "
            "https://minio.storage:9000",
        )
        for url in ("minio:9000", "https://minio/models", "https://key:secret@minio")
    ),
    (
        {"model": {"uri": "s3://models/m", "s3": {"addressing": "Path"}}},
        "spec.model.s3.addressing",
        "model.s3.addressing Path is for storage of your own; remove it, or write its endpointURL",
    ),
    (
        {"model": {"uri": "s3://models/m", "s3": {"region": "EU"}}},
        "spec.model.s3.region",
        "model.s3.region must be small letters, digits and dashes; write for example eu-central-1",
    ),
    (
        {
            "model": {"uri": "s3://models/m", "s3": {"credentialsSecretName": "s3"}},
            "engine.env": [{"name": "AWS_ACCESS_KEY_ID", "value": "x"}],
        },
        "spec.engine.env",
        "engine.env: with model.s3 the operator sets AWS_ENDPOINT_URL, AWS_DEFAULT_REGION, AWS_ACCESS_KEY_ID, "
        "AWS_SECRET_ACCESS_KEY and RUNAI_STREAMER_S3_USE_VIRTUAL_ADDRESSING; remove them, and use the fields of "
        "model.s3",
    ),
    ({"model.tokenSecretRef": {"name": "HF", "key": "token"}}, "spec.model.tokenSecretRef.name", "should match"),
    # engine
    ({"engine.image": "example.com/shift-engine"}, "spec.engine.image", IMAGE),
    ({"engine.image": "example.com:5000/shift-engine"}, "spec.engine.image", IMAGE),
    ({"engine.image": "example.com/shift-engine:latest"}, "spec.engine.image", IMAGE),
    ({"engine.image": "example.com/shift-engine@sha256:12"}, "spec.engine.image", IMAGE),
    (
        {"engine.args": ["--enforce-eager", "--port", "9000"]},
        "spec.engine.args",
        "engine.args: --port is set by the operator (it is 8000, reached through the Service); remove it",
    ),
    (
        {"engine.args": ["--host=::"]},
        "spec.engine.args",
        "engine.args: --host is set by the operator (it is the pod's address); remove it",
    ),
    (
        {"engine.args": ["-tp", "4"]},
        "spec.engine.args",
        "engine.args: -tp is set by the operator (set parallelism.gpusPerReplica instead); remove it",
    ),
    (
        {"engine.args": ["--tensor_parallel_size=4"]},
        "spec.engine.args",
        "engine.args: --tensor-parallel-size is set by the operator (set parallelism.gpusPerReplica instead); remove "
        "it",
    ),
    (
        {"engine.args": ["--served-model", "x"]},
        "spec.engine.args",
        "engine.args: --served-model-name is set by the operator (set model.name instead); remove it",
    ),
    (
        {"engine.args": ["--shutdown-timeout", "0"]},
        "spec.engine.args",
        "engine.args: --shutdown-timeout is set by the operator (set drain.timeoutSeconds instead); remove it",
    ),
    ({"engine.args": ["--x"] * 65}, "spec.engine.args", "must have at most 64 items"),
    ({"engine.env": [{"name": "POD_IP", "value": "1"}]}, "spec.engine.env[0].name", OWNED_ENV),
    ({"engine.env": [{"name": "HF_TOKEN", "value": "secret"}]}, "spec.engine.env[0].name", OWNED_ENV),
    (
        {"engine.env": [{"name": "1A", "value": "x"}]},
        "spec.engine.env[0].name",
        "engine.env: a variable's name has letters, digits and underscores, first no digit",
    ),
    (
        {"engine.env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]},
        "spec.engine.env[1]",
        "Duplicate value",
    ),
    (
        {"engine.env": [{"name": "A", "value": "1", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]},
        "spec.engine.env[0]",
        "engine.env: a variable has either value or valueFrom; remove one of them",
    ),
    (
        {"engine.env": [{"name": "A", "valueFrom": {}}]},
        "spec.engine.env[0].valueFrom",
        "valueFrom needs exactly one of secretKeyRef, configMapKeyRef and fieldRef",
    ),
    ({"engine.resources": {"cpu": "1.5"}}, "spec.engine.resources.cpu", "should match"),
    ({"engine.resources": {"memory": "64G"}}, "spec.engine.resources.memory", "should match"),
    ({"engine.resources": {"memory": "0Gi"}}, "spec.engine.resources.memory", "should match"),
    # replicas, rollout, drain
    ({"replicas": -1}, "spec.replicas", "greater than or equal to 0"),
    ({"replicas": 1001}, "spec.replicas", "less than or equal to 1000"),
    ({"scaling": {"mode": "Auto"}}, "spec.scaling.mode", 'supported values: "Fixed", "External", "Managed"'),
    # scaling and slo
    (
        {"scaling": {"minReplicas": 2}},
        "spec.scaling.mode",
        "scaling: minReplicas, maxReplicas, idle and policyRef are for mode Managed, mode is Fixed; write mode: "
        "Managed, or remove them and set bounds where spec.replicas is written",
    ),
    (
        {"scaling": {"mode": "External", "idle": {}}},
        "spec.scaling.mode",
        "scaling: minReplicas, maxReplicas, idle and policyRef are for mode Managed, mode is External;",
    ),
    (
        {"scaling": {"mode": "Managed"}, "slo": SLO},
        "spec.scaling",
        "scaling: mode Managed needs maxReplicas, what the deployment may cost; write for example maxReplicas: 4",
    ),
    (
        {"scaling": {"mode": "Managed", "minReplicas": 5, "maxReplicas": 4}, "slo": SLO},
        "spec.scaling.minReplicas",
        "scaling: minReplicas 5 is above maxReplicas 4; swap them or raise maxReplicas",
    ),
    (
        {"scaling": {"mode": "Managed", "maxReplicas": 4, "idle": {"replicas": 1}}, "slo": SLO},
        "spec.scaling.idle.replicas",
        "scaling.idle: replicas 1 is not below minReplicas 1, idling would free nothing; lower it, or remove idle",
    ),
    (
        {"scaling": {"mode": "Managed", "maxReplicas": 4, "idle": {"afterSeconds": 59}}, "slo": SLO},
        "spec.scaling.idle.afterSeconds",
        "greater than or equal to 60",
    ),
    ({"scaling": {"mode": "Managed", "maxReplicas": 0}, "slo": SLO}, "spec.scaling.maxReplicas", "equal to 1"),
    ({"scaling": {"mode": "Managed", "maxReplicas": 1001}, "slo": SLO}, "spec.scaling.maxReplicas", "equal to 1000"),
    (
        {"scaling": {"mode": "Managed", "maxReplicas": 4}},
        "spec.slo",
        "scaling.mode Managed needs slo, it runs the fewest replicas that keep it; write for example slo: {ttft: "
        "{milliseconds: 800}}, or scaling.mode: Fixed",
    ),
    (
        {"slo": {}},
        "spec.slo",
        "slo is empty; write ttft: {milliseconds: 800} or tpot: {milliseconds: 40}, or remove slo",
    ),
    ({"slo": {"ttft": {"percentile": 95}}}, "spec.slo.ttft.milliseconds", "Required value"),
    (
        {"slo": {"tpot": {"milliseconds": 40, "percentile": 100}}},
        "spec.slo.tpot.percentile",
        "less than or equal to 99",
    ),
    ({"slo": {"tpot": {"milliseconds": 0}}}, "spec.slo.tpot.milliseconds", "greater than or equal to 1"),
    ({"disruption": {"minAvailable": -1}}, "spec.disruption.minAvailable", "greater than or equal to 0"),
    ({"disruption": {"minAvailable": "50%"}}, "spec.disruption.minAvailable", 'must be of type integer: "string"'),
    (
        {"rollout": {"maxSurge": 0, "maxUnavailable": 0}},
        "spec.rollout.maxUnavailable",
        "rollout: maxSurge and maxUnavailable cannot both be 0, no replica could ever be replaced; write "
        "maxUnavailable: 1 where no GPU is spare, else maxSurge: 1",
    ),
    (
        {"rollout": {"strategy": "Surge", "maxSurge": 0}},
        "spec.rollout.maxSurge",
        "rollout: strategy Surge starts new replicas beside the old ones, so maxSurge cannot be 0; write maxSurge: 1, "
        "or strategy: InPlace",
    ),
    (
        {"rollout": {"strategy": "InPlace", "maxUnavailable": 0}},
        "spec.rollout.maxUnavailable",
        "rollout: strategy InPlace ends a replica before its successor starts, so maxUnavailable cannot be 0; write "
        "maxUnavailable: 1, or strategy: Surge",
    ),
    ({"rollout": {"strategy": "BlueGreen"}}, "spec.rollout.strategy", 'supported values: "Auto"'),
    (
        {"rollout": {"progressDeadlineSeconds": 59}},
        "spec.rollout.progressDeadlineSeconds",
        "greater than or equal to 60",
    ),
    ({"drain": {"timeoutSeconds": 0}}, "spec.drain.timeoutSeconds", "greater than or equal to 1"),
    ({"drain": {"timeoutSeconds": 3601}}, "spec.drain.timeoutSeconds", "less than or equal to 3600"),
    # scheduling
    (
        {"scheduling.resourceName": "gpu"},
        "spec.scheduling.resourceName",
        "scheduling.resourceName must be domain/resource, as the node's device plugin announces it; write for example "
        "nvidia.com/gpu",
    ),
    (
        {"scheduling.tolerations": [{"effect": "NoSchedule"}]},
        "spec.scheduling.tolerations[0]",
        "scheduling.tolerations: a toleration without key tolerates everything; write operator: Exists if you mean "
        "that, else a key",
    ),
    (
        {"scheduling.tolerations": [{"key": "a", "operator": "Exists", "value": "b"}]},
        "spec.scheduling.tolerations[0]",
        "scheduling.tolerations: operator Exists takes no value; remove value or write operator: Equal",
    ),
    (
        {"scheduling.tolerations": [{"key": "a", "operator": "Exists", "tolerationSeconds": 5}]},
        "spec.scheduling.tolerations[0]",
        "scheduling.tolerations: tolerationSeconds needs effect: NoExecute",
    ),
    (
        {
            "scheduling.affinity.podAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution": [
                {
                    "topologyKey": "kubernetes.io/hostname",
                    "labelSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]},
                }
            ]
        },
        "matchExpressions[0]",
        "matchExpressions: operators In, NotIn, Gt and Lt need values, Exists and DoesNotExist take none",
    ),
    (
        {
            "scheduling.topologySpreadConstraints": [
                {"maxSkew": 0, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
            ]
        },
        "spec.scheduling.topologySpreadConstraints[0].maxSkew",
        "greater than or equal to 1",
    ),
    ({"gateway": {"endpointPicker": {"port": 0}}}, "spec.gateway.endpointPicker.port", "greater than or equal to 1"),
    ({"gateway": {"endpointPicker": {"serviceName": "A"}}}, "spec.gateway.endpointPicker.serviceName", "should match"),
    ({"gateway": {"endpointPicker": {"failureMode": "Open"}}}, "failureMode", '"FailOpen", "FailClose"'),
    ({"scheduling.queueName": "Team_A"}, "spec.scheduling.queueName", "should match"),
    *(
        (
            {path: {"Größe": "x"}},
            f"spec.{path}",
            f"{path}: a key is at most 63 letters, digits, '-', '_' and '.', before that at most a domain and '/'; "
            "write for example example.com/team",
        )
        for path in ("scheduling.nodeSelector", "template.metadata.labels", "template.metadata.annotations")
    ),
    ({"scheduling.nodeSelector": {"a/b/c": "x"}}, "spec.scheduling.nodeSelector", "example.com/team"),
    ({"scheduling.nodeSelector": {"a": "b c"}}, "spec.scheduling.nodeSelector.a", "should match"),
    ({"scheduling.priorityClassName": "High"}, "spec.scheduling.priorityClassName", "should match"),
    (
        {
            "scheduling.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution": [
                {"topologyKey": "zone", "namespaces": ["team.a"]}
            ]
        },
        "namespaces[0]",
        "should match",
    ),
    (
        {"networkPolicy": {"enabled": True, "allowFrom": [{}]}},
        "spec.networkPolicy.allowFrom[0]",
        "networkPolicy.allowFrom: a peer needs namespaceSelector or podSelector; write podSelector: {} for every pod "
        "of the namespace, namespaceSelector: {} for every pod of the cluster",
    ),
    # template
    (
        {"template.metadata.labels": {"app.kubernetes.io/name": "mine"}},
        "spec.template.metadata.labels",
        "template.metadata.labels: app.kubernetes.io/name, app.kubernetes.io/managed-by, kueue.x-k8s.io/queue-name, "
        "pod-template-hash and shiftparallel.io/* are set by the operator; remove them",
    ),
    ({"template.metadata.labels": {"shiftparallel.io/deployment": "x"}}, "template.metadata.labels", "remove them"),
    (
        {"template.metadata.annotations": {"shiftparallel.io/schedule-generation": "7"}},
        "spec.template.metadata.annotations",
        "shiftparallel.io/* are set by the operator; remove them",
    ),
    ({"template.spec.containers": [{"name": "engine", "image": "e:1"}]}, "spec.template.spec.containers", ENGINE_OWN),
    ({"template.spec.containers": [{"name": "engine", "args": ["--x"]}]}, "spec.template.spec.containers", ENGINE_OWN),
    (
        {"template.spec.containers": [{"name": "engine", "env": [{"name": "POD_IP", "value": "1"}]}]},
        "spec.template.spec.containers",
        ENGINE_OWN,
    ),
    (
        {"template.spec.containers": [{"name": "engine", "resources": {"limits": {"memory": "1Gi"}}}]},
        "spec.template.spec.containers",
        ENGINE_OWN,
    ),
    (
        {"template.spec.containers": [{"name": "logs"}]},
        "spec.template.spec.containers",
        "template.spec.containers: a container needs an image; to add to the engine's container, write name: engine",
    ),
    (
        {"template.spec.initContainers": [{"name": "engine", "image": "e:1"}]},
        "spec.template.spec.initContainers",
        INIT,
    ),
    (
        {
            "template.spec.initContainers": [{"name": "logs", "image": "e:1"}],
            "template.spec.containers": [{"name": "logs", "image": "e:1"}],
        },
        "spec.template.spec.initContainers",
        INIT,
    ),
    (
        {"template.spec.initContainers": [{"name": "a", "image": "e:1", "restartPolicy": "Never"}]},
        "restartPolicy",
        'supported values: "Always"',
    ),
    *(
        (
            {"template.spec.containers": [{"name": "engine", "volumeMounts": [{"name": "v", "mountPath": path}]}]},
            "spec.template.spec.containers",
            "template.spec.containers: /etc/shift, /dev/shm, /mnt/model, /mnt/huggingface and what is above and below "
            "them in the engine's container are the operator's; mount it elsewhere",
        )
        for path in ("/etc/shift", "/etc", "/mnt/model/llama")
    ),
    (
        {"template.spec.containers": [{"name": "a", "image": "e:1", "ports": [{"containerPort": 8000}]}]},
        "spec.template.spec.containers",
        "template.spec.containers: port 8000 and the name http are the engine's; use another",
    ),
    (
        {"template.spec.volumes": [{"name": "schedule", "emptyDir": {}}]},
        "spec.template.spec.volumes[0].name",
        "template.spec.volumes: schedule, shm, model, huggingface are the operator's; give yours another name, and use "
        "model.uri and model.cache for the model's",
    ),
    (
        {"template.spec.volumes": [{"name": "v", "emptyDir": {}, "secret": {"secretName": "s"}}]},
        "spec.template.spec.volumes[0]",
        "template.spec.volumes: a volume needs exactly one of configMap, secret, emptyDir and persistentVolumeClaim",
    ),
    (
        {"template.spec.volumes": [{"name": "v", "emptyDir": {}}, {"name": "v", "emptyDir": {}}]},
        "spec.template.spec.volumes[1]",
        "Duplicate value",
    ),
    (
        {"template.spec.containers": [{"name": "engine", "volumeMounts": [{"name": "v", "mountPath": "a/b"}]}]},
        "mountPath",
        "template.spec: mountPath must be an absolute path in its shortest form, without ':'; write for example",
    ),
    (
        {"template.spec.containers": [{"name": "engine", "securityContext": {"runAsUser": 0}}]},
        "runAsUser",
        "greater than or equal to 1",
    ),
    # What is not in the closed list.
    ({"template.spec.hostNetwork": True}, "unknown field", '"spec.template.spec.hostNetwork"'),
    ({"template.spec.terminationGracePeriodSeconds": 1}, "unknown field", "terminationGracePeriodSeconds"),
    (
        {"template.spec.containers": [{"name": "engine", "securityContext": {"privileged": True}}]},
        "unknown field",
        "securityContext.privileged",
    ),
    # typing errors, under --validate=strict
    ({"shfit": {"mode": "Fixed"}}, "unknown field", '"spec.shfit"'),
    ({"parallelism.degree.pipeline": 1}, "unknown field", '"spec.parallelism.degree.pipeline"'),
    ({"scheduling.tolerations": [{"key": "a", "operater": "Exists"}]}, "unknown field", "operater"),
]

GOOD: list[dict[str, Any]] = [
    {},
    TWO_GPUS,
    {**ONE_GPU, "shift.mode": "TensorOnly"},
    {"parallelism.degree": {"sequence": 8, "tensor": 1}},
    {"parallelism.degreeCandidates": [{"sequence": 4, "tensor": 2}, {"sequence": 8, "tensor": 1}]},
    {"shift": {"thresholdTokens": 16}},
    {"shift": {"thresholdTokens": 8192, "mode": "Fixed"}},
    {"shift": {"thresholdTokens": 5, "thresholdRange": {"min": 5, "max": 5}}},
    {"shift": {"thresholdTokens": 131072, "thresholdRange": {"max": 131072}, "mode": "SequenceOnly"}},
    {"model.uri": "pvc://models"},
    {"model.uri": "pvc://my.models/llama/3.1-8b"},
    {"model.uri": "file:///models/tiny_v1.0"},
    {
        "model": {
            "uri": "hf://meta-llama/Llama-3.1-8B",
            "name": "meta/llama:8b",
            "revision": "refs/pr/1",
            "tokenSecretRef": {"name": "hf", "key": "token"},
            "cache": {"claimName": "c", "subPath": "a/b"},
        }
    },
    {"engine.image": "example.com:5000/a/shift-engine:0.1.0"},
    {"engine.image": "shift-engine@sha256:" + "0" * 64},
    # A beginning of an owned flag that is a flag of its own, and a value that looks like an owned flag's name.
    {
        "engine.args": [
            "--max-model-len",
            "4096",
            "-O3",
            "--quantization",
            "fp8",
            "port",
            "--override-generation-config={}",
        ]
    },
    {
        "engine.env": [
            {"name": "A", "value": ""},
            {"name": "B"},
            {"name": "C", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}},
        ]
    },
    {"replicas": 0, "suspend": True},
    {"rollout": {"maxSurge": 0, "maxUnavailable": 1}},
    {"drain": {"timeoutSeconds": 3600}},
    {"scaling": {"mode": "External"}, "slo": {"tpot": {"milliseconds": 40, "percentile": 99}}},
    {"scaling": {"mode": "Managed", "maxReplicas": 1}, "slo": SLO},
    {
        "scaling": {
            "mode": "Managed",
            "minReplicas": 2,
            "maxReplicas": 2,
            "idle": {"replicas": 1, "afterSeconds": 60},
            "policyRef": "prod-gpus",
        },
        "slo": SLO | {"tpot": {"milliseconds": 40}},
    },
    {"gateway": {"endpointPicker": {"serviceName": "picker", "port": 9003, "failureMode": "FailClose"}}},
    {"template": TEMPLATE},
    {"networkPolicy": {"enabled": True, "allowFrom": [{"podSelector": {}}, {"namespaceSelector": LABEL}]}},
    {"disruption": {"minAvailable": 3}, "scheduling.queueName": "team-a"},
    {"engine.resources": {"cpu": "1500m", "memory": "65536Mi"}},
    {"scheduling.tolerations": [{"operator": "Exists"}, {"key": "a", "effect": "NoExecute", "tolerationSeconds": 0}]},
    {
        "scheduling": {
            "resourceName": "amd.com/gpu",
            "nodeSelector": {"a/b": "c"},
            "priorityClassName": "high",
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": LABEL}
            ],
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [{"matchExpressions": [{"key": "a", "operator": "Gt", "values": ["1"]}]}]
                    }
                },
                "podAffinity": {
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        {"weight": 1, "podAffinityTerm": {"topologyKey": "zone", "labelSelector": LABEL}}
                    ]
                },
            },
        }
    },
]


@pytest.mark.parametrize(("changes", "field", "sentence"), BAD, ids=[f"{i}-{case[1]}" for i, case in enumerate(BAD)])
def test_a_spec_outside_a_rule_is_refused(verdict: Any, changes: dict[str, Any], field: str, sentence: str) -> None:
    refusal = verdict(changes)
    assert field in refusal
    assert sentence in refusal


@pytest.mark.parametrize("changes", GOOD, ids=range(len(GOOD)))
def test_a_spec_inside_every_rule_is_accepted(verdict: Any, changes: dict[str, Any]) -> None:
    assert verdict(changes) == "accepted"


@pytest.mark.parametrize("name", ["1chat", "chat.prod", "c" * 64])
def test_a_name_that_no_service_can_have_is_refused(verdict: Any, name: str) -> None:
    assert (
        "metadata.name must be at most 63 lower-case letters, digits and dashes and start with a letter, since the "
        "Service has the same name; write for example chat-8b"
    ) in verdict(name=name)


def test_the_longest_name_is_accepted(verdict: Any) -> None:
    assert verdict(name="c" * 63) == "accepted"


def test_the_gpus_of_a_replica_cannot_be_changed(answer: Any) -> None:
    assert answer() == "accepted"
    assert answer({"replicas": 2}) == "accepted"
    assert (
        "parallelism.gpusPerReplica cannot be changed; create a ShiftDeployment with another name and delete this one "
        "when the new one is Available"
    ) in answer(TWO_GPUS)

"""The fields of KubeRay's RayCluster and RayJob (ray.io/v1) as a JSON schema, after its API reference; pods only as far as used."""

from __future__ import annotations

from typing import Any


def record(fields: dict[str, Any], *required: str) -> dict[str, Any]:
    """An object with these fields and no others."""
    return {"type": "object", "properties": fields, "required": list(required), "additionalProperties": False}


def table(values: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": values}


def many(items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1}


TEXT, FLAG, COUNT = {"type": "string"}, {"type": "boolean"}, {"type": "integer", "minimum": 0}
NUMBER, ANY = {"type": "number", "minimum": 0}, {"type": "object"}
QUANTITY = {"type": "string", "pattern": r"^\d+(\.\d+)?(m|Ki|Mi|Gi|Ti)?$"}

METADATA = record({"name": TEXT, "namespace": TEXT, "labels": table(TEXT), "annotations": table(TEXT)}, "name")
RESOURCES = record({"requests": table(QUANTITY), "limits": table(QUANTITY)})
SECRET = record({"name": TEXT, "optional": FLAG}, "name")
KEY = record({"name": TEXT, "key": TEXT, "optional": FLAG}, "name", "key")
CONTAINER = record(
    {
        "name": TEXT,
        "image": TEXT,
        "command": many(TEXT),
        "args": many(TEXT),
        "env": many(record({"name": TEXT, "value": TEXT, "valueFrom": record({"secretKeyRef": KEY})}, "name")),
        "envFrom": many(record({"secretRef": SECRET, "configMapRef": SECRET})),
        "ports": many(record({"containerPort": COUNT, "name": {"type": "string", "maxLength": 15}}, "containerPort")),
        "resources": RESOURCES,
        "volumeMounts": many(record({"name": TEXT, "mountPath": TEXT, "readOnly": FLAG}, "name", "mountPath")),
    },
    "name",
    "image",
)
VOLUME = record(
    {
        "name": TEXT,
        "persistentVolumeClaim": record({"claimName": TEXT, "readOnly": FLAG}, "claimName"),
        "emptyDir": record({"medium": {"enum": ["", "Memory"]}, "sizeLimit": QUANTITY}),
    },
    "name",
)
POD = record(
    {
        "metadata": ANY,
        "spec": record(
            {
                "containers": many(CONTAINER),
                "initContainers": many(CONTAINER),
                "volumes": many(VOLUME),
                "nodeSelector": table(TEXT),
                "tolerations": many(ANY),
                "restartPolicy": {"enum": ["Always", "OnFailure", "Never"]},
            },
            "containers",
        ),
    },
    "spec",
)
START = table(TEXT)
"""Options of `ray start`; Kubernetes refuses numbers here."""
CLUSTER = record(
    {
        "rayVersion": TEXT,
        "authOptions": record(
            {"mode": {"enum": ["disabled", "token"]}, "secretName": TEXT, "enableK8sTokenAuth": FLAG}
        ),
        "enableInTreeAutoscaling": FLAG,
        "autoscalerOptions": ANY,
        "gcsFaultToleranceOptions": ANY,
        "suspend": FLAG,
        "managedBy": TEXT,
        "headGroupSpec": record(
            {
                "rayStartParams": START,
                "template": POD,
                "serviceType": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
                "enableIngress": FLAG,
                "headService": ANY,
                "resources": table(TEXT),
                "labels": table(TEXT),
            },
            "template",
        ),
        "workerGroupSpecs": many(
            record(
                {
                    "groupName": TEXT,
                    "replicas": COUNT,
                    "minReplicas": COUNT,
                    "maxReplicas": COUNT,
                    "numOfHosts": COUNT,
                    "idleTimeoutSeconds": COUNT,
                    "suspend": FLAG,
                    "rayStartParams": START,
                    "template": POD,
                    "scaleStrategy": ANY,
                    "resources": table(TEXT),
                    "labels": table(TEXT),
                },
                "groupName",
                "minReplicas",
                "maxReplicas",
                "template",
            )
        ),
    },
    "headGroupSpec",
)
JOB = record(
    {
        "entrypoint": TEXT,
        "entrypointNumCpus": NUMBER,
        "entrypointNumGpus": NUMBER,
        "entrypointResources": TEXT,
        "runtimeEnvYAML": TEXT,
        "jobId": TEXT,
        "metadata": table(TEXT),
        "submissionMode": {"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        "submitterPodTemplate": POD,
        "submitterConfig": record({"backoffLimit": COUNT}),
        "backoffLimit": COUNT,
        "activeDeadlineSeconds": COUNT,
        "shutdownAfterJobFinishes": FLAG,
        "ttlSecondsAfterFinished": COUNT,
        "deletionStrategy": ANY,
        "clusterSelector": table(TEXT),
        "rayClusterSpec": CLUSTER,
        "suspend": FLAG,
        "managedBy": TEXT,
    }
)
CLAIM = record(
    {
        "accessModes": many({"enum": ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"]}),
        "resources": RESOURCES,
        "storageClassName": TEXT,
    },
    "accessModes",
    "resources",
)


def schema_of(kind: str) -> dict[str, Any]:
    """Of a whole document of this kind."""
    version, spec = {
        "RayCluster": ("ray.io/v1", CLUSTER),
        "RayJob": ("ray.io/v1", JOB),
        "PersistentVolumeClaim": ("v1", CLAIM),
    }[kind]
    return record(
        {"apiVersion": {"const": version}, "kind": {"const": kind}, "metadata": METADATA, "spec": spec},
        "apiVersion",
        "kind",
        "metadata",
        "spec",
    )

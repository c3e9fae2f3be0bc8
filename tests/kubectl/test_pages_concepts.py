"""The page about Services: each of its manifests, applied, looked at, and reached where it can be.

EndpointSlices and services without selectors, several ports, headless services, names of elsewhere, external addresses,
node ports: kubectl's lines and what is served. The pages with a story of their own are in `test_pages_tasks`.
"""

from pathlib import Path
from typing import Any

import pytest

from portway.testing.kubectl import Kubectl
from portway.testing.pages import Line, Page, RegisteredPod, run_page

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(180)]

MY_APP = {"app.kubernetes.io/name": "MyApp"}
PODS = (RegisteredPod("my-app-1", MY_APP, 9376), RegisteredPod("my-app-2", MY_APP, 9376))
ADDRESS = "$(kubectl get service my-service -o jsonpath='{.spec.clusterIP}')"


def service(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "my-service"}, "spec": spec}


def port(number: int, target: int | str, **more: Any) -> dict[str, Any]:
    return {"protocol": "TCP", "port": number, "targetPort": target, **more}


def applied(*lines: Line, pods: tuple[RegisteredPod, ...] = PODS, **manifests: Any) -> Page:
    """A page that applies its manifests and then does its lines."""
    files = {f"{name.replace('_', '-')}.yaml": content for name, content in manifests.items()}
    apply = tuple(Line(f"kubectl apply -f {name}", "created$") for name in files)
    return Page((*apply, *lines), files, pods)


SLICE = {
    "apiVersion": "discovery.k8s.io/v1",
    "kind": "EndpointSlice",
    "metadata": {"name": "my-service-1", "labels": {"kubernetes.io/service-name": "my-service"}},
    "addressType": "IPv4",
    "ports": [{"name": "", "appProtocol": "http", "protocol": "TCP", "port": 9376}],
    "endpoints": [{"addresses": ["10.4.5.6"]}, {"addresses": ["10.1.2.3"]}],
}
NAMED_PORT_POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "nginx", "labels": {"app.kubernetes.io/name": "proxy"}},
    "spec": {
        "containers": [
            {
                "name": "nginx",
                "image": "nginx:stable",
                "ports": [{"containerPort": 80, "name": "http-web-svc"}],
            }
        ]
    },
}
RUNNING = (
    '{"status": {"phase": "Running", "podIP": "10.9.8.7", "podIPs": [{"ip": "10.9.8.7"}],'
    ' "conditions": [{"type": "Ready", "status": "True"}]}}'
)

EXAMPLES = {
    "a service": applied(
        Line("kubectl get service my-service", r"^my-service +ClusterIP +127\.\S+ +<none> +80/TCP"),
        Line("kubectl get endpointslices", r"^my-service-\w+ +IPv4 +9376 +127\.\S+,127\.\S+ ", eventual=True),
        Line(f"curl -s http://{ADDRESS}", "^my-app-[12]$", eventual=True),
        service=service(selector=MY_APP, ports=[port(80, 9376)]),
    ),
    "named ports of pods": applied(
        Line(f"kubectl patch pod nginx --subresource=status --type=merge -p '{RUNNING}'", "pod/nginx patched"),
        Line(
            "kubectl describe service my-service",
            (r"^TargetPort: +http-web-svc/TCP", r"^Endpoints: +10\.9\.8\.7:80$"),
            eventual=True,
        ),
        pods=(),
        pod=NAMED_PORT_POD,
        service=service(
            selector={"app.kubernetes.io/name": "proxy"}, ports=[port(80, "http-web-svc", name="name-of-service-port")]
        ),
    ),
    "without a selector": applied(
        Line(  # older ones read Endpoints
            "kubectl describe service my-service",
            (r"^Selector: +<none>$", r"^Endpoints: +10\.\S+:9376,10\.\S+:9376$"),
            since=(1, 34),
        ),
        Line(
            "kubectl get endpointslices -l kubernetes.io/service-name=my-service",
            r"^my-service-1 +IPv4 +9376 +10\.4\.5\.6,10\.1\.2\.3 ",
        ),
        Line(
            "kubectl get endpointslice my-service-1 -o jsonpath='{.endpoints[*].addresses}'",
            r'^\["10.4.5.6"\] \["10.1.2.3"\]$',
        ),
        pods=(),
        service=service(ports=[port(80, 9376, name="")]),
        slice=SLICE,
    ),
    "several ports": applied(
        Line("kubectl get service my-service", r"^my-service +ClusterIP +127\.\S+ +<none> +80/TCP,443/TCP"),
        Line(
            "kubectl describe service my-service",
            (
                r"^Port: +http +80/TCP$",
                r"^TargetPort: +9376/TCP$",
                r"^Port: +https +443/TCP$",
                r"^TargetPort: +9377/TCP$",
            ),
        ),
        Line(f"curl -s http://{ADDRESS}:80", "^my-app-[12]$", eventual=True),
        service=service(selector=MY_APP, ports=[port(80, 9376, name="http"), port(443, 9377, name="https")]),
    ),
    "a name for several ports is required": Page(
        files={"service.yaml": service(selector=MY_APP, ports=[port(80, 9376), port(443, 9377)])},
        lines=(
            Line(
                "kubectl apply -f service.yaml",
                refused='The Service "my-service" is invalid: \n* spec.ports[0].name: Required value\n'
                "* spec.ports[1].name: Required value",
            ),
        ),
    ),
    "a node port": applied(
        Line("kubectl get service my-service", r"^my-service +NodePort +127\.\S+ +<none> +80:30007/TCP"),
        Line("curl -s http://127.0.0.1:30007", "^my-app-[12]$", eventual=True),
        service=service(type="NodePort", selector=MY_APP, ports=[port(80, 9376, nodePort=30007)]),
    ),
    "a load balancer": applied(
        Line("kubectl get service my-service", r"^my-service +LoadBalancer +127\.\S+ +(<pending>|[\d.]+) +80:3\d+/TCP"),
        service=service(type="LoadBalancer", selector=MY_APP, ports=[port(80, 9376)]),
    ),
    "headless": applied(
        Line("kubectl get service my-service", r"^my-service +ClusterIP +None +<none> +80/TCP"),
        Line(
            "kubectl get endpointslices -l service.kubernetes.io/headless",
            r"^my-service-\w+ +IPv4 +9376 +127\.",
            eventual=True,
        ),
        service=service(clusterIP="None", selector=MY_APP, ports=[port(80, 9376)]),
    ),
    "a name of elsewhere": applied(
        Line(
            "kubectl get service my-service", r"^my-service +ExternalName +<none> +my\.database\.example\.com +<none>"
        ),
        Line("kubectl describe service my-service", r"^External Name: +my\.database\.example\.com$"),
        service=service(type="ExternalName", externalName="my.database.example.com"),
    ),
    "external addresses": applied(
        Line("kubectl get service my-service", r"^my-service +ClusterIP +127\.\S+ +198\.51\.100\.32 +80/TCP"),
        Line("kubectl describe service my-service", r"^External IPs?: +198\.51\.100\.32$"),
        service=service(selector=MY_APP, ports=[port(80, 49152, name="http")], externalIPs=["198.51.100.32"]),
    ),
    "sessions stick": applied(
        Line("kubectl describe service my-service", r"^Session Affinity: +ClientIP$"),
        Line(
            f"for i in $(seq 9); do curl -s http://{ADDRESS}; done | grep my-app | uniq -c",
            r"\A +9 my-app-[12]\n\Z",
            eventual=True,
        ),
        service=service(selector=MY_APP, ports=[port(80, 9376)], sessionAffinity="ClientIP"),
    ),
}


@pytest.mark.parametrize("title", EXAMPLES)
def test_an_example_of_the_page_about_services(outermost: Kubectl, tmp_path: Path, title: str) -> None:
    run_page(EXAMPLES[title], outermost, tmp_path)

"""The documentation's pages about services: their kubectl lines, in order, with pods registered by hand.

Deployments, replica sets, exec and running an image are out of scope: such lines are here as well, with what the user
is told. A line that a page runs inside of the cluster runs on this machine, which is one of the cluster's.
"""

from pathlib import Path

import pytest

from portway.testing.kubectl import Kubectl
from portway.testing.pages import Line, Page, RegisteredPod, run_page

pytestmark = [pytest.mark.kubectl, pytest.mark.timeout(180)]

NO_DEPLOYMENTS = 'error: the server doesn\'t have a resource type "deployments"'
NO_DEPLOYMENT = 'error: the server doesn\'t have a resource type "deployment"'
NO_REPLICA_SETS = 'error: the server doesn\'t have a resource type "replicasets"'
NO_KUBELET = "pods/exec is not served: no kubelet runs this cluster's pods"
NO_CREATION = "error: failed to create deployment: the server does not allow this method on the requested resource"
NO_EXEC = f"Error from server (NotFound): {NO_KUBELET}", f"error: unable to upgrade connection: {NO_KUBELET}"


def no_deployment(name: str, file: str) -> str:
    return (
        f'error: resource mapping not found for name: "{name}" namespace: "" from "{file}": no matches for kind '
        '"Deployment" in version "apps/v1"\nensure CRDs are installed first'
    )


def deployment(name: str) -> dict[str, object]:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}}


def service(name: str, **spec: object) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


HELLO = {"run": "load-balancer-example"}
ACCESS = Page(
    files={"hello-application.yaml": deployment("hello-world")},
    pods=(RegisteredPod("hello-world-1", HELLO, 8080), RegisteredPod("hello-world-2", HELLO, 8080)),
    lines=(
        Line("kubectl apply -f hello-application.yaml", refused=no_deployment("hello-world", "hello-application.yaml")),
        Line("kubectl get deployments hello-world", refused=NO_DEPLOYMENTS),
        Line("kubectl describe deployments hello-world", refused=NO_DEPLOYMENTS),
        Line("kubectl get replicasets", refused=NO_REPLICA_SETS),
        Line("kubectl describe replicasets", refused=NO_REPLICA_SETS),
        Line(
            "kubectl expose deployment hello-world --type=NodePort --name=example-service",
            refused=NO_DEPLOYMENT,
        ),
        Line(
            "kubectl expose pod hello-world-1 --type=NodePort --name=example-service"
            ' --selector="run=load-balancer-example"',
            "service/example-service exposed",
        ),
        Line(
            "kubectl describe services example-service",
            (
                r"^Name: +example-service$",
                r"^Selector: +run=load-balancer-example$",
                r"^Type: +NodePort$",
                r"^IP: +127\.",
                r"^Port: +<unset> +8080/TCP$",
                r"^TargetPort: +8080/TCP$",
                r"^NodePort: +<unset> +3\d{4}/TCP$",
                r"^Endpoints: +127\.\S+:8080,127\.\S+:8080$",
                r"^Session Affinity: +None$",
            ),
            eventual=True,
        ),
        Line(
            'kubectl get pods --selector="run=load-balancer-example" --output=wide',
            (r"^NAME +READY +STATUS", r"^hello-world-1 +1/1 +Running", r"^hello-world-2 +1/1 +Running"),
        ),
        Line(
            "curl -s http://127.0.0.1:$(kubectl get -o jsonpath='{.spec.ports[0].nodePort}' services example-service)",
            "^hello-world-[12]$",
            eventual=True,
        ),
        Line("kubectl delete services example-service", 'service "example-service" deleted'),
        Line("kubectl delete deployment hello-world", refused=NO_DEPLOYMENT),
    ),
)

NGINX = {"run": "my-nginx"}
NGINX_SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "my-nginx", "labels": NGINX},
    "spec": {"ports": [{"port": 80, "protocol": "TCP"}], "selector": NGINX},
}
NGINX_SECURE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"name": "my-nginx", "labels": NGINX},
    "spec": {
        "type": "NodePort",
        "ports": [
            {"port": 8080, "targetPort": 80, "protocol": "TCP", "name": "http"},
            {"port": 443, "protocol": "TCP", "name": "https"},
        ],
        "selector": NGINX,
    },
}
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "nginxsecret-by-hand"},
    "type": "kubernetes.io/tls",
    "data": {"tls.crt": "Yw==", "tls.key": "aw=="},
}
CONNECT = Page(
    files={
        "run-my-nginx.yaml": deployment("my-nginx"),
        "nginx-svc.yaml": NGINX_SERVICE,
        "nginx-secure-app.yaml": {"apiVersion": "v1", "kind": "List", "items": [NGINX_SECURE, deployment("my-nginx")]},
        "nginxsecrets.yaml": SECRET,
        "curlpod.yaml": deployment("curl-deployment"),
        "default.conf": "server { listen 80; }\n",
    },
    pods=(RegisteredPod("my-nginx-1", NGINX, 80), RegisteredPod("my-nginx-2", NGINX, 80)),
    lines=(
        Line("kubectl apply -f ./run-my-nginx.yaml", refused=no_deployment("my-nginx", "./run-my-nginx.yaml")),
        Line("kubectl get pods -l run=my-nginx -o wide", (r"^my-nginx-1 +1/1 +Running", r"^my-nginx-2 ")),
        Line(
            "kubectl get pods -l run=my-nginx -o custom-columns=POD_IP:.status.podIPs",
            (r"^POD_IP$", r"^\[map\[ip:127\.\d+\.\d+\.\d+\]\]$"),
        ),
        Line("kubectl expose deployment/my-nginx", refused=NO_DEPLOYMENT),
        Line("kubectl apply -f nginx-svc.yaml", "service/my-nginx created"),
        Line(
            "kubectl get svc my-nginx", (r"^NAME +TYPE +CLUSTER-IP", r"^my-nginx +ClusterIP +127\.\S+ +<none> +80/TCP")
        ),
        Line(
            "kubectl describe svc my-nginx",
            (r"^Labels: +run=my-nginx$", r"^Selector: +run=my-nginx$", r"^Endpoints: +127\.\S+:80,127\.\S+:80$"),
            eventual=True,
        ),
        Line(
            "kubectl get endpointslices -l kubernetes.io/service-name=my-nginx",
            (r"^NAME +ADDRESSTYPE +PORTS +ENDPOINTS", r"^my-nginx-\w+ +IPv4 +80 +127\.\S+,127\.\S+"),
        ),
        Line(
            "curl -s http://$(kubectl get svc my-nginx -o jsonpath='{.spec.clusterIP}')",
            "^my-nginx-[12]$",
            eventual=True,
        ),
        Line("kubectl exec my-nginx-1 -- printenv | grep SERVICE", refused=NO_EXEC),
        Line(
            "kubectl scale deployment my-nginx --replicas=0; kubectl scale deployment my-nginx --replicas=2",
            refused=f"{NO_DEPLOYMENT}\n{NO_DEPLOYMENT}",
        ),
        Line(
            "kubectl get services kube-dns --namespace=kube-system",
            refused='Error from server (NotFound): services "kube-dns" not found',
        ),
        Line("openssl req -x509 -nodes -newkey rsa:2048 -subj /CN=my-nginx -keyout nginx.key -out nginx.crt"),
        Line("kubectl create secret tls nginxsecret --key nginx.key --cert nginx.crt", "secret/nginxsecret created"),
        Line("kubectl get secrets", r"^nginxsecret +kubernetes\.io/tls +2 "),
        Line("kubectl create configmap nginxconfigmap --from-file=default.conf", "configmap/nginxconfigmap created"),
        Line("kubectl get configmaps", r"^nginxconfigmap +1 "),
        Line(
            "kubectl describe configmap nginxconfigmap",
            (r"^Name: +nginxconfigmap$", r"^default\.conf:$", r"^server { listen 80; }$"),
        ),
        Line("kubectl apply -f nginxsecrets.yaml", "secret/nginxsecret-by-hand created"),
        Line("kubectl delete deployments,svc my-nginx", refused=NO_DEPLOYMENTS),
        Line("kubectl delete svc my-nginx", 'service "my-nginx" deleted'),
        Line("kubectl create -f ./nginx-secure-app.yaml 2>/dev/null || true", "service/my-nginx created"),
        Line(
            "kubectl get svc my-nginx -o yaml | grep nodePort -C 5",
            (r"name: http$", r"nodePort: \d+$", r"port: 8080$", r"targetPort: 80$", r"name: https$"),
        ),
        Line("kubectl get nodes -o yaml | grep -c ExternalIP || true", "^0$"),
        Line(
            "curl -s http://127.0.0.1:$(kubectl get -o jsonpath='{.spec.ports[0].nodePort}' services my-nginx)",
            "^my-nginx-[12]$",
            eventual=True,
        ),
        Line("kubectl apply -f ./curlpod.yaml", refused=no_deployment("curl-deployment", "./curlpod.yaml")),
        Line("KUBE_EDITOR='sed -i s/NodePort/LoadBalancer/' kubectl edit svc my-nginx", "^service/my-nginx edited$"),
        Line("kubectl get svc my-nginx", r"^my-nginx +LoadBalancer +127\.\S+ +\S+ +8080:3\d+/TCP,443:3\d+/TCP "),
        Line("kubectl describe service my-nginx", (r"^Type: +LoadBalancer$", r"^IP: +127\.")),
        Line(
            "kubectl delete secrets nginxsecret nginxsecret-by-hand; kubectl delete configmaps nginxconfigmap",
            "deleted",
        ),
    ),
)

HOSTNAMES = {"app": "hostnames"}
DEBUG = Page(
    files={
        "service.yaml": service(
            "hostnames", selector=HOSTNAMES, ports=[{"name": "default", "port": 80, "targetPort": 9376}]
        )
    },
    pods=tuple(RegisteredPod(f"hostnames-{number}", HOSTNAMES, 9376) for number in range(3)),
    lines=(
        Line("kubectl exec hostnames-0 -c web -- id", refused=NO_EXEC),
        Line(
            "kubectl create deployment hostnames --image=registry.k8s.io/serve_hostname",
            refused=NO_CREATION,
        ),
        Line("kubectl scale deployment hostnames --replicas=3", refused=NO_DEPLOYMENT),
        Line(
            "kubectl get pods -l app=hostnames",
            (r"^hostnames-0 +1/1 +Running +0 ", r"^hostnames-1 ", r"^hostnames-2 "),
        ),
        Line(
            "kubectl get pods -l app=hostnames -o go-template='{{range .items}}{{.status.podIP}}{{\"\\n\"}}{{end}}'",
            r"\A(127\.\d+\.\d+\.\d+\n){3}\Z",
        ),
        Line(
            "for ep in $(kubectl get pods -l app=hostnames -o jsonpath='{.items[*].status.podIP}');"
            " do curl -s $ep:9376; done",
            (r"^hostnames-0$", r"^hostnames-1$", r"^hostnames-2$"),
        ),
        Line("kubectl get svc hostnames", refused='Error from server (NotFound): services "hostnames" not found'),
        Line("kubectl expose deployment hostnames --port=80 --target-port=9376", refused=NO_DEPLOYMENT),
        Line("kubectl apply -f service.yaml", "service/hostnames created"),
        Line("kubectl get svc hostnames", r"^hostnames +ClusterIP +127\.\S+ +<none> +80/TCP"),
        Line(
            "kubectl get service hostnames -o json",
            (r'"clusterIP": "127\.', r'"port": 80,', r'"targetPort": 9376', r'"app": "hostnames"'),
        ),
        Line(
            "kubectl get endpointslices -l kubernetes.io/service-name=hostnames",
            r"^hostnames-\w+ +IPv4 +9376 ",
            eventual=True,
        ),
        Line(
            "for i in $(seq 9); do curl -s $(kubectl get svc hostnames -o jsonpath='{.spec.clusterIP}'):80; done",
            r"\A(hostnames-\d\nclient_address=\S+\n){9}\Z",
            eventual=True,
        ),
        Line("kubectl get pods --namespace=kube-system --selector=k8s-app=kube-dns", r"\A\Z"),
    ),
)

SOURCE = {"app": "source-ip-app"}
NODEPORT = 'NODEPORT=$(kubectl get -o jsonpath="{.spec.ports[0].nodePort}" services nodeport)'
SOURCE_IP = Page(
    pods=(RegisteredPod("source-ip-app-1", SOURCE, 8080),),
    lines=(
        Line(
            "kubectl create deployment source-ip-app --image=registry.k8s.io/echoserver:1.10",
            refused=NO_CREATION,
        ),
        Line("kubectl get nodes", (r"^NAME +STATUS +ROLES", r"^portway +Ready ")),
        Line(
            "kubectl expose deployment source-ip-app --name=clusterip --port=80 --target-port=8080",
            refused=NO_DEPLOYMENT,
        ),
        Line(
            "kubectl expose pod source-ip-app-1 --name=clusterip --port=80 --target-port=8080",
            "service/clusterip exposed",
        ),
        Line("kubectl get svc clusterip", r"^clusterip +ClusterIP +127\.\S+ +<none> +80/TCP"),
        Line(
            "curl -s $(kubectl get svc clusterip -o jsonpath='{.spec.clusterIP}')",
            (r"^source-ip-app-1$", r"^client_address=127\."),
            eventual=True,
        ),
        Line(
            "kubectl expose pod source-ip-app-1 --name=nodeport --port=80 --target-port=8080 --type=NodePort",
            "service/nodeport exposed",
        ),
        Line(
            "kubectl get nodes -o jsonpath='{ $.items[*].status.addresses[?(@.type==\"InternalIP\")].address }'",
            r"^\d+\.\d+\.\d+\.\d+$",
        ),
        # The tests' node ports are on loopback alone: not on the address above.
        Line(
            f"{NODEPORT}; curl -s 127.0.0.1:$NODEPORT | grep -i client_address", r"^client_address=127\.", eventual=True
        ),
        Line(
            'kubectl patch svc nodeport -p \'{"spec":{"externalTrafficPolicy":"Local"}}\'',
            "^service/nodeport patched$",
        ),
        Line("kubectl get svc nodeport -o yaml", r"externalTrafficPolicy: Local$"),
        Line(
            "kubectl expose pod source-ip-app-1 --name=loadbalancer --port=80 --target-port=8080 --type=LoadBalancer",
            "service/loadbalancer exposed",
        ),
        Line("kubectl get svc loadbalancer", r"^loadbalancer +LoadBalancer +127\.\S+ +\S+ +80:3\d+/TCP"),
        Line(
            'kubectl patch svc loadbalancer -p \'{"spec":{"externalTrafficPolicy":"Local"}}\'',
            "^service/loadbalancer patched$",
        ),
        Line("kubectl get svc loadbalancer -o yaml | grep -i healthCheckNodePort", r"healthCheckNodePort: 3\d+$"),
        Line(
            "kubectl get pod -o wide -l app=source-ip-app",
            r"^source-ip-app-1 +1/1 +Running +0 +\S+ +127\.\S+ +elsewhere ",
        ),
        Line(
            "kubectl delete svc -l app=source-ip-app",
            (r'^service "clusterip" deleted', r'^service "loadbalancer" deleted', r'^service "nodeport" deleted'),
        ),
        Line("kubectl delete deployment source-ip-app", refused=NO_DEPLOYMENT),
    ),
)

EXTERNAL = Page(
    files={"load-balancer-example.yaml": deployment("hello-world")},
    pods=(RegisteredPod("hello-world-1", {"app.kubernetes.io/name": "load-balancer-example"}, 8080),),
    lines=(
        Line(
            "kubectl apply -f load-balancer-example.yaml",
            refused=no_deployment("hello-world", "load-balancer-example.yaml"),
        ),
        Line("kubectl expose deployment hello-world --type=LoadBalancer --name=my-service", refused=NO_DEPLOYMENT),
        Line("kubectl expose pod hello-world-1 --type=LoadBalancer --name=my-service", "service/my-service exposed"),
        Line("kubectl get services my-service", r"^my-service +LoadBalancer +127\.\S+ +\S+ +8080:3\d+/TCP"),
        Line(
            "kubectl describe services my-service",
            (
                r"^Namespace: +{namespace}$",
                r"^Labels: +app\.kubernetes\.io/name=load-balancer-example$",
                r"^Selector: +app\.kubernetes\.io/name=load-balancer-example$",
                r"^Type: +LoadBalancer$",
                r"^NodePort: +<unset> +3\d+/TCP$",
                r"^Endpoints: +127\.\S+:8080$",
            ),
            eventual=True,
        ),
        Line("kubectl get pods --output=wide", r"^hello-world-1 +1/1 +Running"),
        Line(
            "curl -s http://127.0.0.1:$(kubectl get -o jsonpath='{.spec.ports[0].nodePort}' services my-service)",
            "^hello-world-1$",
            eventual=True,
        ),
        Line("kubectl delete services my-service", 'service "my-service" deleted'),
        Line("kubectl delete deployment hello-world", refused=NO_DEPLOYMENT),
    ),
)

PAGES = {
    "use a service to access an application": ACCESS,
    "connecting applications with services": CONNECT,
    "debug services": DEBUG,
    "using source ip": SOURCE_IP,
    "exposing an external ip address": EXTERNAL,
}


@pytest.mark.parametrize("title", PAGES)
def test_a_page_of_the_documentation(outermost: Kubectl, tmp_path: Path, title: str) -> None:
    run_page(PAGES[title], outermost, tmp_path)

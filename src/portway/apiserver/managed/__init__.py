"""Who owns which fields of an object: what `metadata.managedFields` keeps and server-side apply goes by. Pure.

    types      how each field of a message merges, from data/merge-types.json
    elements   one step of a path: a field's name, a list element's keys or value
    fieldset   sets of paths, in the form in which FieldsV1 writes them, and their algebra
    extract    an object → the set of its fields; the key of a list's element
    compare    two objects → what was added, modified and removed
    merge      an applied configuration into a live object; fields out of an object
    entries    managedFields ↔ owners
    conflicts  the refusal of an apply, in upstream's words
    tracking   what a create or an update does to the owners
    applying   what an apply does to the object and its owners
    lastapplied  kubectl's own annotation, where client-side apply becomes server-side apply

Reading and writing are the registry's, HTTP the handlers'. The behaviour is that of structured-merge-diff v6 and of
k8s.io/apimachinery/pkg/util/managedfields as Kubernetes 1.36 uses them.
"""

# Links: requests that are submitted as one. See _links.pyx.

# The image of every node: docker build -f deploy/ray.Dockerfile -t mmgcs-ray .
# Ray's version must equal `rayVersion` in kuberay.yaml. For another object store, install gcsfs or adlfs instead of s3fs.
FROM rayproject/ray:2.60.0-py311-cpu
COPY --chown=ray:users . /tmp/mmgcs
RUN pip install --no-cache-dir "/tmp/mmgcs[scale]" s3fs && rm -rf /tmp/mmgcs

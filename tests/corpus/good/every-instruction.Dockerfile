# escape=`
# check=skip=JSONArgsRecommended
ARG TAG=8
FROM --platform=$TARGETPLATFORM runtime:${TAG} AS Final
ARG TAG OTHER="a b" TARGETARCH TARGETSTAGE
ENV a=1 b="$a 2" c='$a' d=e` f
ENV legacy one two
LABEL "com.example.a"="x $TAG" b=`$a
MAINTAINER nobody
EXPOSE 80 443/TCP 8000-8002/udp $TAG
VOLUME /data $a
VOLUME ["/a b", "/c"]
WORKDIR /work/
WORKDIR sub/../dir
USER app:$TAG
STOPSIGNAL SIGRTMIN+3
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN echo $TAG `
    # a comment
    && true
RUN ["/bin/true", "$TAG"]
COPY a`b c /d/
ADD e /f
HEALTHCHECK --interval=30s --timeout=1.5s --start-period=1m --start-interval=250ms --retries=5 CMD curl localhost
HEALTHCHECK CMD ["/check", "$x"]
ONBUILD ENV child=$a
ONBUILD COPY --from=final . .
ENTRYPOINT exec app
CMD ["--port", "80"]

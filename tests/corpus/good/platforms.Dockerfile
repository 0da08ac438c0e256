ARG FOREIGN=linux/arm64
FROM --platform=$BUILDPLATFORM base AS build
ARG BUILDPLATFORM TARGETPLATFORM TARGETOS TARGETARCH TARGETVARIANT
RUN make ARCH=$TARGETARCH
FROM --platform=$FOREIGN base AS foreign
FROM scratch
COPY --from=build /out /
COPY --from=foreign /etc/os-release /

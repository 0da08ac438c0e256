FROM base AS tools
FROM base
ARG CACHE=/root/.cache
WORKDIR /src
RUN --mount=target=. --mount=type=bind,from=tools,source=bin,target=/tools,rw make
RUN --mount=type=cache,target=$CACHE --mount=type=cache,id=apt,target=/var/cache/apt,sharing=locked,mode=0700,uid=1,gid=2,from=tools,source=/seed make
RUN --mount=type=tmpfs,target=/tmp,size=64m --mount=type=secret,id=netrc,target=/root/.netrc,required --mount=type=secret,id=token,env=TOKEN make
RUN --mount=type=ssh --mount=type=ssh,id=deploy,target=agent,required=true,mode=0666 git fetch
RUN --network=none --security=sandbox --mount=type=bind,from=certs:latest,target=/certs,ro ["make", "test"]
RUN --network=host --mount='"target=/a,b",source=x' make

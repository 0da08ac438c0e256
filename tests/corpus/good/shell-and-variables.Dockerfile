# escape=`
FROM base
ENV HOME_DIR=/home/me NAME="a b" EMPTY=
ENV PATH=$HOME_DIR/bin:$PATH FIRST="${NAME% *}" LAST="${NAME##* }" MISSING=${EMPTY:-none}
ENV WINDOWS=c:\temp ESCAPED=`$NAME
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN echo "$NAME" | `
    tee /x
WORKDIR $HOME_DIR
WORKDIR work/
RUN ["id", "-u"]
VOLUME ["/data", "/with space"]
STOPSIGNAL SIGQUIT
CMD exec server

FROM base
SHELL ["/bin/bash", "-c"]
# What a shell does with `:=` and `:0:7` is its affair.
RUN : "${V:=1}"; echo "${GIT_SHA:0:7}" ${@:2}; cat <<EOF >/x
text
EOF

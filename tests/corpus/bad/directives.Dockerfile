# escape=x
# escape=`
# check=skip=all
# check=skip=all
FROM base

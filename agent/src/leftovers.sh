# Run by any POSIX shell, with mark and grace (seconds) set before it. Ends all processes whose environment has the mark, the sessions that such
# processes lead, and what descends from either; then says what it found and what is left.

pause() { sleep 0.1 2>/dev/null || sleep 1; }

if ! [ -r /proc/self/stat ]; then
  echo 'no /proc'
  exit 0
fi

if printf 'a\0b\0' | grep -zxqF b 2>/dev/null; then
  marked() { grep -lszxF -e "FLOTILLA_RUN=$mark" /proc/[0-9]*/environ; }
else
  marked() {
    for file in /proc/[0-9]*/environ; do
      tr '\0' '\n' <"$file" 2>/dev/null | grep -xqF -e "FLOTILLA_RUN=$mark" && echo "$file"
    done
  }
fi

# Sets state, parent and session of process $1.
facts() {
  { IFS= read -r facts <"/proc/$1/stat"; } 2>/dev/null || return 1
  set -- ${facts##*) }
  state=$1 parent=$2 session=$4
  case $state in Z | X) return 1 ;; esac
}

# Sets all to what runs of it, each number between blanks.
look() {
  all=' ' sessions=' '
  for file in $(marked 2>/dev/null); do
    pid=${file#/proc/} pid=${pid%/environ}
    facts "$pid" || continue
    all="$all$pid "
    [ "$session" = "$pid" ] && sessions="$sessions$pid "
  done
  more=1
  while [ "$more" ] && [ "$all" != ' ' ]; do
    more=
    for folder in /proc/[0-9]*; do
      pid=${folder#/proc/}
      case $all in *" $pid "*) continue ;; esac
      facts "$pid" || continue
      case $sessions in *" $session "*) all="$all$pid " more=1 && continue ;; esac
      case $all in *" $parent "*) all="$all$pid " more=1 ;; esac
    done
  done
}

# Whether nothing is there, at two looks: a child that came during the first is seen by the second.
gone() {
  look
  [ "$all" = ' ' ] || return 1
  look
  [ "$all" = ' ' ]
}

look
for pid in $all; do echo "found $pid"; done
if [ "$all" != ' ' ] && [ "$grace" -gt 0 ]; then
  kill -TERM $all 2>/dev/null
  # One that is stopped would not hear it.
  kill -CONT $all 2>/dev/null
  # Whole seconds, of which the first may be nearly over.
  until=$(($(date +%s) + grace + 1))
  while ! gone && [ "$(date +%s)" -lt "$until" ]; do pause; done
fi
round=0
while ! gone && [ "$round" -lt 30 ]; do
  [ "$round" -gt 0 ] || echo killed
  kill -KILL $all 2>/dev/null
  pause
  round=$((round + 1))
done
for pid in $all; do
  name=
  { read -r name <"/proc/$pid/comm"; } 2>/dev/null
  echo "left $pid $name"
done
echo looked

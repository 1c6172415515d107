// Completion for bash 4.4 and later. It needs no bash-completion, and doesn't mind it.
import { type CommandEntry, withSubcommands } from "../../command-line/option-table.ts";
import { offers, type Valued, valuedOptions } from "./table.ts";

export function bashCompletion(programs: readonly CommandEntry[]): string {
  const commands = programs.flatMap(withSubcommands);
  const names = programs.map(({ name }) => name).join(" ");
  return `# bash completion for ${names}

# What may follow a command: _vringd_words and _vringd_kind (file, directory, socket, group, or none), by command.
_vringd_after() {
  case $1 in
${commands.map(caseOfCommand).join("\n")}
  esac
}

# What an option takes. Fails if it takes nothing.
_vringd_value() {
  case $1 in
${commands.flatMap(valuedOptions).map(caseOfOption).join("\n")}
    *) return 1 ;;
  esac
}

_vringd() {
  local _vringd_options= _vringd_words= _vringd_kind= _vringd_commands=
  local command=\${1##*/} current=\${COMP_WORDS[COMP_CWORD]} option= prefix= at= word i
  _vringd_after "$command"
  # "=", "@" and "=@" are words of their own, unless COMP_WORDBREAKS was changed.
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]} at=
    if [[ $word == -*= && \${COMP_WORDS[i + 1]} == "@" ]]; then word=\${word%=}; fi
    if [[ $word == "=" ]]; then continue
    elif [[ $word == "@" || $word == "=@" ]]; then at=@
    elif [[ $option ]]; then option=
    elif [[ $word == -* ]]; then
      if _vringd_value "$command $word"; then option=$word; fi
    elif [[ " $_vringd_commands " == *" $word "* ]]; then
      command+=" $word"
      _vringd_after "$command"
    fi
  done
  if [[ $current == "@" || $current == "=@" ]]; then at=@ current=; fi
  if [[ $current == "=" ]]; then current=; fi
  if [[ ! $option && $current == --*=* ]]; then
    option=\${current%%=*} prefix=$option= current=\${current#*=}
  fi

  COMPREPLY=()
  local words
  if [[ $option ]]; then
    _vringd_words= _vringd_kind=
    _vringd_value "$command $option"
    words=$_vringd_words
  else
    _vringd_after "$command"
    if [[ $current == -* || ! $_vringd_words$_vringd_kind ]]; then
      words=$_vringd_options _vringd_kind=
    else words=$_vringd_words; fi
  fi
  case $_vringd_kind in
    file) _vringd_paths f default ;;
    directory) _vringd_paths d dirnames ;;
    group) mapfile -t COMPREPLY < <(compgen -P "$prefix" -g -- "$current") ;;
    socket)
      if [[ $at$current == @* ]]; then _vringd_abstract; else _vringd_paths f default; fi ;;
    *) mapfile -t COMPREPLY < <(compgen -P "$prefix" -W "$words" -- "$current") ;;
  esac
  if [[ \${#COMPREPLY[@]} == 1 && \${COMPREPLY[0]} == *[=/] ]]; then compopt -o nospace; fi
}

# Readline knows best how to quote a path, but not one that begins within a word.
_vringd_paths() {
  local path slash
  if [[ ! $prefix ]]; then
    compopt -o "$2"
    return
  fi
  mapfile -t COMPREPLY < <(
    compgen "-$1" -- "$current" | while IFS= read -r path; do
      slash=
      if [[ -d $path ]]; then slash=/; fi
      printf '%s%q%s\n' "$prefix" "$path" "$slash"
    done
  )
}

# Where somebody listens without a file. Readline takes the "@" for a part of the word, though COMP_WORDS doesn't. Names with other characters are left out: anybody may choose them.
_vringd_abstract() {
  local flags type path
  while read -r _ _ _ flags type _ _ path; do
    if [[ $flags == 00010000 && $type == 0001 && $path == @* && ! $path =~ .[^A-Za-z0-9._/+-] ]]; then
      if [[ $path == "$at$current"* ]]; then COMPREPLY+=("$prefix$path"); fi
    fi
  done < /proc/net/unix
}

complete -F _vringd ${names}
`;
}

function caseOfCommand(entry: CommandEntry): string {
  const { options, commands, words, kind } = offers(entry);
  return `    ${quoted(entry.path)})
      _vringd_options=${quoted(options.join(" "))}
      _vringd_commands=${quoted(commands.join(" "))}
      _vringd_words=${quoted(words.join(" "))} _vringd_kind=${kind ?? ""} ;;`;
}

function caseOfOption({ path, flags, value }: Valued): string {
  const patterns = flags.map((flag) => quoted(`${path} ${flag}`)).join(" | ");
  return `    ${patterns}) _vringd_words=${quoted(value.choices.join(" "))} _vringd_kind=${value.completes ?? ""} ;;`;
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

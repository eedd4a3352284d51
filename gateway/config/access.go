package config

import (
	"slices"
	"strings"

	"jumpgate/gateway"
)

// access reads who may: without the field everybody.
func (o object) access(key string) gateway.Access {
	v := o.get(key)
	if v == nil {
		return gateway.Access{}
	}
	const hint = "allow: [names] lets nobody else, deny: [names] lets all others; without both, leave it out"
	a := o.object(v, `"`+key+`"`, accessFields)
	if v.kind == mapping && len(a.fields) == 0 && !a.faulty {
		o.errorf(v.at, hint, "%q is empty", key)
	}
	return gateway.Access{Allow: a.userList("allow", "allow_file"), Deny: a.userList("deny", "deny_file")}
}

// unguarded warns of fields that nobody heeds in guard mode.
func (o object) unguarded(keys ...string) {
	for _, key := range keys {
		if o.has(key) {
			o.warnf(o.place(key), "%q does nothing with issuer: %s: who may jump, and what peers are told, is decided by Moodle", key, IssuerMoodle)
		}
	}
}

// userList reads a list of usernames from a field, a file, or both; nil if
// neither is given.
func (o object) userList(key, fileKey string) *gateway.UserList {
	if !o.has(key) && !o.has(fileKey) {
		return nil
	}
	const hint = "write one name, such as ada; one * stands for any text, such as student-*"
	var names []string
	add := func(at place, text string) {
		if _, err := gateway.NewUserList(text); err != nil {
			o.errorf(at, hint, "%s", err)
			return
		}
		names = append(names, text)
	}
	for _, item := range o.list(key) {
		if text, ok := o.plain(item, "a username"); ok {
			add(item.at, text)
		}
	}
	if file := o.path(fileKey); file != "" {
		b, _ := o.read(fileKey, file)
		src := &source{name: file, text: lines(b)}
		line := 0
		for text := range strings.Lines(string(src.text)) {
			line++
			if text = strings.TrimSpace(text); text != "" && text[0] != '#' {
				add(place{src: src, line: line, column: 1}, text)
			}
		}
	}
	list, err := gateway.NewUserList(names...)
	if err != nil {
		o.errorf(o.place(key), hint, "%s", err) // not reached: they were checked one by one
	}
	return list
}

// profile reads which of the known fields of a user travel to a peer, or are
// taken from it; nil for all, Moodle's default, with or without the field.
func (o object) profile(key string, known []string) []string {
	if !o.has(key) {
		return nil
	}
	all := []string{}
	for _, item := range o.list(key) {
		text, ok := o.plain(item, "a field")
		if ok && !slices.Contains(known, text) {
			o.errorf(item.at, "write some of: "+strings.Join(known, ", ")+"; username, first and last name and mail address always travel",
				"unknown field %q of a user", text)
		} else if ok && !slices.Contains(all, text) {
			all = append(all, text)
		}
	}
	if len(all) == len(known) {
		return nil
	}
	return all
}

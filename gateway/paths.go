package gateway

import "strings"

// permits reports whether the configuration opens a path of the peer, of which
// resolved is what a browser makes. Servers differ: some merge repeated slashes
// before they resolve dots, so what those would open must be allowed too.
func (p *Peer) permits(path, resolved string) bool {
	if len(p.AllowPaths)+len(p.DenyPaths) == 0 {
		return true
	}
	if plain := PlainPath(path); plain != path {
		if resolved, ok := resolveDots(plain); !ok || !p.permits(plain, resolved) {
			return false
		}
	}
	if !strings.Contains(path, "//") {
		return p.opens(resolved)
	}
	merged, ok := resolveDots(mergeSlashes(path))
	return ok && p.opens(resolved) && p.opens(merged) && p.opens(mergeSlashes(resolved))
}

// PlainPath returns a path as those servers read it that end it where a query or
// fragment begins, and take parameters, and dots and blanks at the end, off its
// names. Dot segments stay.
func PlainPath(path string) string {
	if !strings.ContainsAny(path, "?#;. ") {
		return path
	}
	segments := strings.Split(before(path, "?#"), "/")
	for i, segment := range segments {
		if segment = strings.TrimRight(before(segment, ";"), " "); dots(segment) == 0 {
			segment = strings.TrimRight(segment, " .")
		}
		segments[i] = segment
	}
	return strings.Join(segments, "/")
}

// opens reports whether a path is within an allowed prefix and within no denied
// one. Some file systems ignore case: what is denied is denied in any.
func (p *Peer) opens(path string) bool {
	return (len(p.AllowPaths) == 0 || within(path, p.AllowPaths)) &&
		(len(p.DenyPaths) == 0 || !withinFold(path, p.DenyPaths))
}

// within compares on segment boundaries: /mod/forum, with or without a slash
// at its end, holds itself and /mod/forum/view.php, not /mod/forum2.
func within(path string, prefixes []string) bool {
	for _, prefix := range prefixes {
		rest, ok := strings.CutPrefix(path, strings.TrimSuffix(prefix, "/"))
		if ok && (rest == "" || rest[0] == '/') {
			return true
		}
	}
	return false
}

// withinFold is within for prefixes in any case.
func withinFold(path string, prefixes []string) bool {
	path = fold(path)
	for _, prefix := range prefixes {
		if within(path, []string{fold(prefix)}) {
			return true
		}
	}
	return false
}

// fold returns s without case: ı and ſ have the capitals of i and s.
func fold(s string) string { return strings.ToLower(strings.ToUpper(s)) }

func mergeSlashes(path string) string {
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	return path
}

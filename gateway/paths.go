package gateway

import "strings"

// permits reports whether the configuration opens a path of the peer, of which
// resolved is what a browser makes. Servers differ: some merge repeated slashes
// before they resolve dots, so what those would open must be allowed too.
func (p *Peer) permits(path, resolved string) bool {
	if len(p.AllowPaths)+len(p.DenyPaths) == 0 {
		return true
	}
	if !strings.Contains(path, "//") {
		return p.opens(resolved)
	}
	merged, ok := resolveDots(mergeSlashes(path))
	return ok && p.opens(resolved) && p.opens(merged) && p.opens(mergeSlashes(resolved))
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
	path = strings.ToLower(path)
	for _, prefix := range prefixes {
		if within(path, []string{strings.ToLower(prefix)}) {
			return true
		}
	}
	return false
}

func mergeSlashes(path string) string {
	for strings.Contains(path, "//") {
		path = strings.ReplaceAll(path, "//", "/")
	}
	return path
}

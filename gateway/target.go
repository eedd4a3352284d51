package gateway

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// Target is a page of a peer that passed the rules. The zero Target is none;
// only ParseTarget makes others.
type Target struct {
	url  string // wwwroot and path, as a browser would show it
	path int    // where the part below the wwwroot begins in url
}

// String returns the page below the wwwroot: a path with exactly one leading
// slash, query and fragment.
func (t Target) String() string { return t.url[t.path:] }

// URL returns the absolute address of the page.
func (t Target) URL() string { return t.url }

const (
	maxWantsurl = 2048
	maxLayers   = 8  // of escapes around escapes
	maxReadings = 64 // of one layer, by servers of all sorts
)

// ParseTarget applies the target rules to a wantsurl, decoded once from the
// query that carried it. It returns the target and the rule that allowed it,
// or no target and the rule that refused.
//
// What it accepts, a browser resolves below the wwwroot of the peer: the
// result is put together from the wwwroot, one slash, and text in which every
// byte that a parser might read as something else has been refused or escaped.
func ParseTarget(p *Peer, wantsurl string) (Target, Rule) {
	if rule := judgeRaw(wantsurl); rule != RuleOK {
		return Target{}, rule
	}
	local, allowed := reduce(p, wantsurl)
	if allowed != RuleEmpty && allowed != RulePath && allowed != RulePeerURL {
		return Target{}, allowed
	}
	rest, fragment, hasFragment := strings.Cut(local, "#")
	path, query, hasQuery := strings.Cut(rest, "?")
	path, rule := judgePath(path, p)
	if rule != RuleOK {
		return Target{}, rule
	}
	if rule := judgeFragment(fragment); rule != RuleOK {
		return Target{}, rule
	}

	root := p.Wwwroot.String()
	var b strings.Builder
	b.Grow(len(root) + len(path) + len(query) + len(fragment) + 2)
	b.WriteString(root)
	escape(&b, path, inPath)
	if hasQuery {
		b.WriteByte('?')
		writeQuery(&b, query)
	}
	if hasFragment {
		b.WriteByte('#')
		escape(&b, fragment, inFragment)
	}
	// Escaping may have made it longer; what is emitted must pass the rules.
	if b.Len()-len(root) > maxWantsurl {
		return Target{}, RuleTooLong
	}
	return Target{url: b.String(), path: len(root)}, allowed
}

// judgeRaw looks at the bytes as they came, before anything is taken apart.
func judgeRaw(s string) Rule {
	if len(s) > maxWantsurl {
		return RuleTooLong
	}
	ascii := true
	for i := range len(s) {
		switch c := s[i]; {
		case c < 0x21 || c == 0x7f:
			return RuleControlByte
		case c == '\\':
			return RuleBackslash
		case c >= utf8.RuneSelf:
			ascii = false
		}
	}
	if !ascii && !utf8.ValidString(s) {
		return RuleInvalidUTF8
	}
	return RuleOK
}

// reduce brings a wantsurl to the part below the peer's wwwroot, beginning
// with one slash, and says what it was.
func reduce(p *Peer, s string) (string, Rule) {
	switch {
	case s == "":
		return "/", RuleEmpty
	case strings.HasPrefix(s, "//"):
		return "", RuleSchemeRelative
	case s[0] == '/':
		return s, RulePath
	}
	scheme, rest, ok := cutScheme(s)
	if !ok {
		// A Mahara cuts its own wwwroot and the slash off the links in its
		// mails, and its landing page takes slashes off and puts one on. What
		// a Moodle would append to its host name is a path there.
		if p.Application == Mahara {
			return "/" + s, RulePath
		}
		return "", RuleNoSlash
	}
	if rest, ok = strings.CutPrefix(rest, "//"); !ok || !strings.EqualFold(scheme, "http") && !strings.EqualFold(scheme, "https") {
		return "", RuleOpaque
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	if strings.Contains(rest[:end], "@") {
		return "", RuleUserinfo
	}
	rest = rest[end:]
	origin, err := ParseWwwroot(s[:len(s)-len(rest)])
	if err != nil {
		return "", RuleForeignOrigin
	}
	return belowPeer(p, origin.Origin(), rest)
}

// belowPeer cuts the path of the wwwroot, or of an alias, that an absolute
// URL begins with.
func belowPeer(p *Peer, origin, rest string) (string, Rule) {
	rule := RuleForeignOrigin
	for i := -1; i < len(p.Aliases); i++ {
		name := p.Wwwroot
		if i >= 0 {
			name = p.Aliases[i]
		}
		if name.Origin() != origin {
			continue
		}
		local, ok := strings.CutPrefix(rest, name.Path())
		switch {
		case !ok || local != "" && !strings.ContainsRune("/?#", rune(local[0])):
			rule = RuleOutsidePath
			continue
		case strings.HasPrefix(local, "//"):
			return "", RuleSchemeRelative
		case local == "" || local[0] != '/':
			local = "/" + local
		}
		return local, RulePeerURL
	}
	return "", rule
}

// cutScheme splits at the colon that ends a URL scheme (RFC 3986, 3.1).
func cutScheme(s string) (scheme, rest string, ok bool) {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z':
		case i > 0 && (c >= '0' && c <= '9' || c == '+' || c == '-' || c == '.'):
		case i > 0 && c == ':':
			return s[:i], s[i+1:], true
		default:
			return "", "", false
		}
	}
	return "", "", false
}

// judgePath returns the path as a browser normalises it. Every layer of
// escapes is judged, since a server behind the peer may take off more than
// one: none may begin with two slashes, climb above the wwwroot, lead where the
// peer's configuration does not allow or hide a control character or backslash.
func judgePath(path string, p *Peer) (string, Rule) {
	if !wellEscaped(path) {
		return "", RuleBadEscape
	}
	normal := ""
	for i, layers := 0, []string{path}; ; i++ {
		var next []string
		for _, layer := range layers {
			if i > 0 {
				if rule := judgeDecoded(layer); rule != RuleOK {
					return "", rule
				}
			}
			resolved, ok := resolveDots(layer)
			switch {
			case !ok:
				return "", RuleOutsidePath
			case strings.HasPrefix(resolved, "//"), strings.HasPrefix(layer, "//"):
				return "", RuleSchemeRelative
			case !p.permits(layer, resolved):
				return "", RulePathNotAllowed
			}
			if i == 0 {
				normal = resolved
			}
			next = appendNext(next, layer, resolved)
		}
		switch {
		case len(next) == 0:
			return normal, RuleOK
		case i == maxLayers || len(next) > maxReadings:
			return "", RuleTooManyLayers
		}
		layers = next
	}
}

// appendNext appends what is left of a layer of escapes when the next is taken
// off: by a server that resolved the dots first, with or without merging
// slashes, or did not. The escaped slash in /a%2fb/../..%2fx makes a difference.
func appendNext(next []string, layer, resolved string) []string {
	if !strings.Contains(layer, "%") {
		return next
	}
	merged, _ := resolveDots(mergeSlashes(layer)) // climbs no more often than the layer
	for _, read := range [...]string{layer, resolved, merged} {
		if s := unescape(read); s != read && !slices.Contains(next, s) {
			next = append(next, s)
		}
	}
	return next
}

func judgeFragment(fragment string) Rule {
	if !wellEscaped(fragment) {
		return RuleBadEscape
	}
	layer := fragment
	for i := 0; ; i++ {
		next := unescape(layer)
		switch {
		case next == layer:
			return RuleOK
		case i == maxLayers:
			return RuleTooManyLayers
		}
		if rule := judgeDecoded(next); rule != RuleOK {
			return rule
		}
		layer = next
	}
}

// judgeDecoded looks at what escapes stood for. A blank is fine here: files
// have blanks in their names.
func judgeDecoded(s string) Rule {
	for i := range len(s) {
		switch c := s[i]; {
		case c < 0x20 || c == 0x7f:
			return RuleControlByte
		case c == '\\':
			return RuleBackslash
		}
	}
	if !utf8.ValidString(s) {
		return RuleInvalidUTF8
	}
	return RuleOK
}

// resolveDots removes dot segments as the WHATWG URL standard does, which
// takes %2e for a dot. It reports false if the path climbs above its start,
// even if only for a server that merges repeated slashes.
func resolveDots(path string) (string, bool) {
	if !strings.Contains(path, "/.") && !strings.Contains(path, "/%") {
		return path, true
	}
	var out []string // segments; WHATWG counts empty ones
	depth := 0       // and some servers do not
	segments := strings.Split(strings.TrimPrefix(path, "/"), "/")
	for i, segment := range segments {
		last := i == len(segments)-1
		switch dots(segment) {
		case 0:
			out = append(out, segment)
			if segment != "" {
				depth++
			}
			continue
		case 2:
			if depth--; depth < 0 || len(out) == 0 {
				return "", false
			}
			out = out[:len(out)-1]
		}
		if last {
			out = append(out, "")
		}
	}
	return "/" + strings.Join(out, "/"), true
}

// dots returns 1 or 2 for a single-dot or double-dot segment, else 0.
func dots(segment string) int {
	n := 0
	for segment != "" {
		switch {
		case segment[0] == '.':
			segment = segment[1:]
		case len(segment) >= 3 && strings.EqualFold(segment[:3], "%2e"):
			segment = segment[3:]
		default:
			return 0
		}
		if n++; n > 2 {
			return 0
		}
	}
	return n
}

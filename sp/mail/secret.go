package mail

import (
	"net/url"
	"path"
	"regexp"
	"strings"

	"jumpgate/gateway"
)

// bare reports whether a page is for whoever has its address: without a login
// (a new password, a file with a token in its name, an invitation), or with more
// in it than another site may see, such as a sesskey. What jumps, the home reads
// and writes into its log. Whatever is left alone by mistake still works.
func bare(page gateway.Target) bool {
	way, parameters := page.String(), ""
	if i := strings.IndexAny(way, "?#"); i >= 0 {
		way, parameters = way[:i], way[i:]
	}
	if randomText.MatchString(page.String()) {
		return true
	}
	if read, err := url.PathUnescape(way); err == nil {
		way = read
	}
	way = strings.ToLower(path.Clean(way))
	for _, place := range barePlaces {
		if rest, ok := strings.CutPrefix(way, place); ok && (rest == "" || rest[0] == '/') {
			return true
		}
	}
	for parameter := range strings.FieldsFuncSeq(parameters, func(c rune) bool { return strings.ContainsRune("?#&;", c) }) {
		name, _, _ := strings.Cut(parameter, "=")
		if read, err := url.QueryUnescape(name); err == nil {
			name = read
		}
		if secretName.MatchString(name) {
			return true
		}
	}
	return false
}

// barePlaces are the pages of a stock Moodle 4.5 that ask for no login, or for
// one that is not complete, and take a key (source), in lower case. Of some the
// key is part of the path, or has a name that says nothing. Links that jump or
// land themselves, below /auth, were made for somebody.
var barePlaces = []string{
	"/login", "/auth", "/user/emailupdate.php", "/admin/tool/mfa", "/admin/tool/mobile",
	"/tokenpluginfile.php", "/webservice", "/rss", "/calendar/export_execute.php", "/badges/backpackemailverify.php",
	"/enrol/lti", "/mod/lti", "/mod/bigbluebuttonbn/guest.php", "/jumpgate",
}

var (
	// secretName is what parameters with secrets are called, an array's too.
	secretName = regexp.MustCompile(`(?i)(token|key|secret|passw(or)?d|hash|signature|^(pass|pwd|otp|sig))(\[.*)?$`)
	// randomText is a hash, written out.
	randomText = regexp.MustCompile(`[0-9A-Fa-f]{32}`)
)

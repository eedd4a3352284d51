package web

import (
	"bytes"
	"cmp"
	_ "embed"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"

	"jumpgate/gateway"
	"jumpgate/sp"
)

//go:embed templates/home.html
var homeHTML string

//go:embed templates/home.js
var homeScript string

//go:embed templates/departure.html
var departureHTML string

var (
	homeTemplate      = template.Must(template.New("home").Parse(homeHTML))
	departureTemplate = template.Must(template.New("departure").Parse(departureHTML))
)

const (
	// maxChoices is how many homes a page lists. Each stands in its
	// Content-Security-Policy, and web servers in front take only so much.
	maxChoices = 40
	// fewChoices need no field to search them by.
	fewChoices = 6
	maxSearch  = 100 // bytes
)

// choice is a home on the page that asks.
type choice struct {
	Wwwroot    string
	Label      string
	Host       string // empty if that is the label
	Remembered bool
	origin     string
}

// writeChooser asks a learner where they come from. The form leads to us, and
// from here to one of the homes that are listed. Its Referrer-Policy lets older
// browsers say that it was our page. The search is done by us; the script only
// spares the way.
func writeChooser(w http.ResponseWriter, r *http.Request, site *Site, a sp.Bounce) {
	said := ""
	if r.URL.Path == site.Wwwroot.Path()+sp.HomePath {
		said = r.URL.Query().Get("search")
		said = strings.ToValidUTF8(said[:min(len(said), maxSearch)], "")
	}
	open := site.Bounces.Open()
	found := choices(open, said, a.Home)
	listed := found[:min(len(found), maxChoices)]
	forms := []string{"'self'"}
	for _, c := range listed {
		forms = append(forms, c.origin)
	}
	own := site.Wwwroot
	var page bytes.Buffer
	err := homeTemplate.Execute(&page, map[string]any{
		"Site": own.Host() + own.Path(), "Own": own.String(), "Action": own.String() + sp.HomePath, "Wantsurl": a.Page.String(),
		"Home": a.Home, "Back": a.Outcome == sp.OutcomeBack, "Left": a.Outcome == sp.OutcomeLeft,
		"Homes": listed, "More": len(found) - len(listed), "Search": len(open) > fewChoices || said != "", "Said": said,
		"Details": []detail{{"page", a.Page.URL()}, {"request", RequestID(r)}}, "NoCookie": problems[gateway.RuleNoCookie],
		"Style": template.CSS(style), "Script": template.JS(homeScript),
	})
	if err != nil { // the template and its data are our own
		panic(err)
	}
	guardPage(w.Header())
	w.Header().Set("Content-Security-Policy", scriptPolicy(strings.Join(slices.Compact(forms), " "), homeScript))
	w.Header().Set("Referrer-Policy", "same-origin")
	writePage(w, r, http.StatusOK, page.Bytes())
}

// writeDeparture sends who has sent a form on to a location, after mayLead; to is what
// the page calls it. It is a page that leads there by itself and no redirect: Chromium
// applies form-action to all redirects that follow a form, and those of a home may go
// by a login provider that nobody here knows.
func writeDeparture(w http.ResponseWriter, r *http.Request, to, location string) {
	var page bytes.Buffer
	err := departureTemplate.Execute(&page, map[string]any{"To": to, "Location": location, "Style": template.CSS(style)})
	if err != nil { // the template and its data are our own
		panic(err)
	}
	guardPage(w.Header())
	w.Header().Set("Content-Security-Policy", problemPolicy)
	w.Header().Set("Refresh", "0; url="+location)
	writePage(w, r, http.StatusOK, page.Bytes())
}

// hostBeside returns the host of a peer, to stand beside its label.
func hostBeside(p *gateway.Peer) string {
	if host := p.Wwwroot.Host() + p.Wwwroot.Path(); host != p.Label() {
		return host
	}
	return ""
}

// choices returns the homes in whose name or address all words occur: the
// remembered one first, the others by name.
func choices(homes []*gateway.Peer, words string, remembered *gateway.Peer) []choice {
	var found []choice
	for _, p := range homes {
		c := choice{p.Wwwroot.String(), p.Label(), hostBeside(p), p == remembered, p.Wwwroot.Origin()}
		text := folded(c.Label + " " + c.Host)
		if !slices.ContainsFunc(strings.Fields(folded(words)), func(word string) bool { return !strings.Contains(text, word) }) {
			found = append(found, c)
		}
	}
	slices.SortStableFunc(found, func(a, b choice) int {
		if a.Remembered != b.Remembered {
			if a.Remembered {
				return -1
			}
			return 1
		}
		return byName(a.Label, b.Label)
	})
	return found
}

func byName(a, b string) int { return cmp.Compare(folded(a), folded(b)) }

// folded returns a text without capital letters and accents, as people type names
// into a search: gavle finds Gävle. The script of the page does the same.
func folded(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.M, r) {
			return -1
		}
		return r
	}, norm.NFD.String(strings.ToLower(s)))
}

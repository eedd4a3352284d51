package web

import (
	"bytes"
	_ "embed"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"

	"jumpgate/gateway"
)

// linkPath is where, below the wwwroot, people who write mails find links that
// take learners of a home to a page of the site.
const linkPath = "/jumpgate/link"

//go:embed templates/link.html
var linkHTML string

var linkTemplate = template.Must(template.New("link").Parse(linkHTML))

// craftedLink is a link for the learners of one home.
type craftedLink struct {
	Label string
	Host  string // empty if that is the label
	URL   string
}

// craftLink shows the links of a page, for all homes or for one. It never signs
// them: anybody may ask. Without a page it shows where to write its address;
// programs that want text/plain get the bare links, one a line.
func craftLink(site *Site) http.HandlerFunc {
	own := gateway.OwnSite(site.Wwwroot, site.Aliases...)
	return func(w http.ResponseWriter, r *http.Request) {
		query, now := r.URL.Query(), time.Now()
		address, plain := query.Get("url"), prefersPlain(r.Header)
		homes := site.Peers.Homes(now)
		if len(homes) == 0 {
			writeProblem(w, r, noSuchPage, site.Wwwroot.String(), nil)
			return
		}
		if address == "" && !plain {
			writeLinks(w, r, site.Wwwroot, "", nil)
			return
		}
		d := gateway.DecideOwn(own, address)
		if !d.Allow || d.Rule == gateway.RuleEmpty {
			writeProblem(w, r, notOurPage, site.Wwwroot.String(), []detail{{"rule", string(d.Rule)}})
			return
		}
		if query.Has("home") {
			one := gateway.DecideHome(own, site.Peers, query.Get("home"), address, now)
			if !one.Allow {
				writeProblem(w, r, noSuchHome, site.Wwwroot.String(), []detail{{"rule", string(one.Rule)}})
				return
			}
			homes = []*gateway.Peer{one.Peer}
		}
		slices.SortStableFunc(homes, func(a, b *gateway.Peer) int { return byName(a.Label(), b.Label()) })
		links := make([]craftedLink, 0, len(homes))
		for _, home := range homes {
			links = append(links, craftedLink{
				home.Label(), hostBeside(home),
				gateway.JumpLink(home.Wwwroot, home.Application, site.Wwwroot, d.Target),
			})
		}
		if plain {
			writePlainLinks(w, r, links)
			return
		}
		writeLinks(w, r, site.Wwwroot, d.Target.URL(), links)
	}
}

// prefersPlain reports whether a client wants text/plain and no page.
func prefersPlain(h http.Header) bool {
	accept := strings.Join(h["Accept"], ",")
	return strings.Contains(accept, "text/plain") && !strings.Contains(accept, "text/html")
}

func writeLinks(w http.ResponseWriter, r *http.Request, site gateway.Wwwroot, address string, links []craftedLink) {
	var page bytes.Buffer
	err := linkTemplate.Execute(&page, map[string]any{
		"Site": site.Host() + site.Path(), "Action": site.String() + linkPath, "Address": address, "Links": links,
		"Style": template.CSS(style),
	})
	if err != nil { // the template and its data are our own
		panic(err)
	}
	guardPage(w.Header())
	w.Header().Set("Content-Security-Policy", contentPolicy("'self'"))
	writePage(w, r, http.StatusOK, page.Bytes())
}

func writePlainLinks(w http.ResponseWriter, r *http.Request, links []craftedLink) {
	var text bytes.Buffer
	for _, l := range links {
		text.WriteString(l.URL + "\n")
	}
	guardPage(w.Header())
	writeText(w, r, http.StatusOK, "text/plain; charset=utf-8", text.Bytes())
}

var (
	notOurPage = problem{http.StatusBadRequest, "This is not a page of this site",
		"A link can only be made for a page of this site.",
		"Copy the whole address of the page from your browser, or write its path, which begins with a slash."}
	noSuchHome = problem{http.StatusNotFound, "We do not know this home",
		"Learners of that site do not come here, or only from there.",
		"Leave it out to see links for all sites whose learners do."}
)

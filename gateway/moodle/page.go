package moodle

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
)

// page is what a page of Moodle's, such as the login page, says about who looks at it.
type page struct {
	nobody     bool   // not logged in, or not completely
	elsewhere  bool   // a redirect which leaves open whether the session is over
	mfaPending bool   // because tool_mfa waits for a factor
	loginAs    bool   // an administrator wears userID's account
	userID     int64  // 0 if the page does not say: before Moodle 4.5
	sesskey    string // what the session's AJAX calls need
}

var (
	markConfig  = []byte("M.cfg = ")
	markBody    = []byte("<body")
	markClass   = []byte(`class="`)
	markLoginAs = []byte(PageLoginAs + "?id=")
)

// parsePage reads the login page. Every theme's page has, from core (source:
// get_config_for_javascript, initialise_standard_body_classes, header of
// core_renderer),
//
//   - M.cfg, a JSON object with userId (0 for nobody) and sesskey;
//   - body classes: pagelayout-… always, notloggedin, userloggedinas.
//
// The footer of most themes also links to the end of a "login as". A page on
// which they are missing or contradict each other leaves doubt: an error.
func parsePage(body []byte) (page, error) {
	_, script, ok := bytes.Cut(body, markConfig)
	if !ok {
		return page{}, errors.New("it has no M.cfg: not a page of Moodle's")
	}
	var cfg struct {
		UserID  *int64 `json:"userId"`
		Sesskey string `json:"sesskey"`
	}
	if json.NewDecoder(bytes.NewReader(script)).Decode(&cfg) != nil {
		return page{}, errors.New("its M.cfg is not JSON")
	}
	classes := bodyClasses(body)
	if !slices.ContainsFunc(classes, func(c string) bool { return strings.HasPrefix(c, "pagelayout-") }) {
		return page{}, errors.New(`its body has no class pagelayout-…, so a "login as" would not show`)
	}
	p := page{
		nobody:  slices.Contains(classes, "notloggedin"),
		loginAs: slices.Contains(classes, "userloggedinas") || bytes.Contains(body, markLoginAs),
		sesskey: cfg.Sesskey,
	}
	if cfg.UserID != nil {
		p.userID = *cfg.UserID
		if p.userID < 0 || p.nobody != (p.userID == 0) {
			return page{}, errors.New("it contradicts itself about who is logged in")
		}
	}
	return p, nil
}

// bodyClasses returns the classes of the page's body element.
func bodyClasses(body []byte) []string {
	_, tag, _ := bytes.Cut(body, markBody)
	tag, _, _ = bytes.Cut(tag, []byte(">"))
	_, class, _ := bytes.Cut(tag, markClass)
	class, _, ok := bytes.Cut(class, []byte(`"`))
	if !ok {
		return nil
	}
	return strings.Fields(string(class))
}

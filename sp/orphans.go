package sp

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/text/collate"
	"golang.org/x/text/language"

	"jumpgate/gateway"
	"jumpgate/gateway/moodle"
)

// Orphan is an account of a learner of another site that nobody could log in to
// any more if its Moodle had no MNet.
type Orphan struct {
	moodle.RemoteAccount
	Home     gateway.Wwwroot // the peer's, or what Moodle has; zero if that is no wwwroot
	Peer     *gateway.Peer   // nil if the home is no peer
	Name     string          // by gateway.AccountNames; empty if there is none
	Links    []moodle.LinkedLogin
	Linked   bool // whoever the issuer calls Name is logged in to the account
	Problems []Problem
}

// Problem is why an administrator has to decide what becomes of an account.
type Problem struct {
	Kind   ProblemKind
	Detail string // numbers, wwwroots and words of our own
}

// String returns both.
func (p Problem) String() string { return string(p.Kind) + ": " + p.Detail }

// ProblemKind is a stable name.
type ProblemKind string

// The kinds of problems.
const (
	NoName        ProblemKind = "no-name"        // no username of Moodle can have the name
	HomeCollision ProblemKind = "home-collision" // learners of another home could get the same name
	Denied        ProblemKind = "denied"         // Moodle's access control for MNet does not let it in, which no other plugin asks
	OtherAuth     ProblemKind = "other-auth"     // it is no account of the plugin mnet: perhaps nobody may log in to it (nologin)
	SameName      ProblemKind = "same-name"      // another orphan gets it
	NameTaken     ProblemKind = "name-taken"     // a local account has the name
	SameMail      ProblemKind = "same-mail"      // a local account has the mail address: auth_oauth2 would log in to that, and Jumpgate does not let it
	SharedMail    ProblemKind = "shared-mail"    // another orphan has the mail address
	LinkTaken     ProblemKind = "link-taken"     // the issuer's name is linked to another account, or the link is not confirmed
)

// errLost is what becomes of a letter that the character set of mysql's connection
// does not have: somebody else might have the name.
var errLost = errors.New("the ? may be a letter that mysql has not written, for want of --default-character-set=utf8mb4")

// Orphans judges the accounts of learners of other sites, and returns them
// ordered by home and id. If issuerID is not 0 it also judges the linked logins
// of that issuer; an account that is linked has no problem but SameMail.
func Orphans(accounts *moodle.Accounts, peers *gateway.Allowlist, names gateway.AccountNames, issuerID int64) []Orphan {
	folded := folding()
	j := judge{issuerID: issuerID, folded: folded, byName: map[string][]int64{}, byMail: map[string][]int64{}, localName: map[string][]int64{},
		localMail: map[string][]int64{}, linksOf: map[int64][]moodle.LinkedLogin{}, linksTo: map[string][]moodle.LinkedLogin{}}
	for _, l := range accounts.Local {
		j.localName[folded(l.Username)] = append(j.localName[folded(l.Username)], l.ID)
		j.localMail[folded(l.Email)] = append(j.localMail[folded(l.Email)], l.ID)
	}
	for _, l := range accounts.Links {
		j.linksOf[l.UserID] = append(j.linksOf[l.UserID], l)
		if issuerID != 0 && l.IssuerID == issuerID {
			j.linksTo[folded(l.Username)] = append(j.linksTo[folded(l.Username)], l)
		}
	}
	var orphans []Orphan
	homes := map[gateway.Wwwroot]bool{} // whether they are peers
	for _, p := range peers.Peers() {
		if p.Subscribes(gateway.ServiceSSOIDP) {
			homes[p.Wwwroot] = true
		}
	}
	for _, r := range accounts.Remote {
		o := Orphan{RemoteAccount: r, Links: j.linksOf[r.ID]}
		if o.Peer = peers.Find(r.Wwwroot); o.Peer != nil {
			o.Home = o.Peer.Wwwroot
		} else if w, err := gateway.ParseWwwroot(r.Wwwroot); err == nil {
			o.Home = w
		}
		if !o.Home.IsZero() {
			homes[o.Home] = o.Peer != nil
		}
		var err error
		if o.Name, err = names.Of(o.Home, r.Username); err == nil && strings.Contains(r.Username, "?") {
			o.Name, err = "", errLost
		}
		if err != nil {
			o.Problems = append(o.Problems, Problem{NoName, err.Error()})
		} else {
			j.byName[o.Name] = append(j.byName[o.Name], r.ID)
		}
		j.byMail[folded(r.Email)] = append(j.byMail[folded(r.Email)], r.ID)
		orphans = append(orphans, o)
	}
	j.collisions = collisions(names, homes)
	for i := range orphans {
		j.judge(&orphans[i])
	}
	slices.SortFunc(orphans, func(a, b Orphan) int {
		return cmp.Or(strings.Compare(a.Home.String(), b.Home.String()), strings.Compare(a.Wwwroot, b.Wwwroot), cmp.Compare(a.ID, b.ID))
	})
	return orphans
}

// judge knows which accounts have a name or mail address.
type judge struct {
	issuerID             int64
	folded               func(string) string
	byName, byMail       map[string][]int64 // of orphans
	localName, localMail map[string][]int64
	linksOf              map[int64][]moodle.LinkedLogin
	linksTo              map[string][]moodle.LinkedLogin // of the issuer
	collisions           map[gateway.Wwwroot]gateway.Wwwroot
}

func (j *judge) judge(o *Orphan) {
	name := j.folded(o.Name)
	taken := j.linksTo[name]
	if o.Name != "" && len(taken) == 1 && taken[0].UserID == o.ID && taken[0].Username == o.Name && taken[0].Confirmed {
		o.Linked, o.Problems = true, nil
		j.mail(o)
		return
	}
	if other, found := j.collisions[o.Home]; found {
		o.Problems = append(o.Problems, Problem{HomeCollision, other.String()})
	}
	if o.Denied {
		o.Problems = append(o.Problems, Problem{Denied, "by Moodle's access control for MNet"})
	}
	if o.Auth != "mnet" {
		o.Problems = append(o.Problems, Problem{OtherAuth, "it is not mnet"})
	}
	if o.Name != "" {
		others(o, SameName, j.byName[o.Name])
		others(o, NameTaken, j.localName[name])
		if len(taken) > 0 {
			by := max(0, slices.IndexFunc(taken, func(l moodle.LinkedLogin) bool { return l.UserID != o.ID }))
			o.Problems = append(o.Problems, Problem{LinkTaken, fmt.Sprintf("account %d", taken[by].UserID)})
		}
	}
	j.mail(o)
	if mail := j.folded(o.Email); mail != "" {
		others(o, SharedMail, j.byMail[mail])
	}
}

// mail looks for local accounts with the mail address of an orphan: an OAuth2Door
// does not let in whose address is theirs, linked or not.
func (j *judge) mail(o *Orphan) {
	if mail := j.folded(o.Email); mail != "" {
		others(o, SameMail, j.localMail[mail])
	}
}

// others adds a problem if accounts besides the orphan's have something: all
// that have it, which are orphans and this one among them, or local accounts.
func others(o *Orphan, kind ProblemKind, all []int64) {
	if len(all) == 0 || len(all) == 1 && all[0] == o.ID {
		return
	}
	first, more := all[0], len(all)-1
	if kind == SameName || kind == SharedMail {
		more--
		if first == o.ID {
			first = all[1]
		}
	}
	detail := fmt.Sprintf("account %d", first)
	if more > 0 {
		detail += fmt.Sprintf(" and %d more", more)
	}
	o.Problems = append(o.Problems, Problem{kind, detail})
}

// collisions returns for each home that has one another with which it shares
// names. Learners of homes that are no peers come no more, so for peers those do
// not count.
func collisions(names gateway.AccountNames, homes map[gateway.Wwwroot]bool) map[gateway.Wwwroot]gateway.Wwwroot {
	all := slices.SortedFunc(maps.Keys(homes), func(a, b gateway.Wwwroot) int {
		return strings.Compare(a.String(), b.String())
	})
	of := map[gateway.Wwwroot]gateway.Wwwroot{}
	for _, pair := range names.Collisions(all...) {
		of[pair[0]], of[pair[1]] = pair[1], pair[0]
	}
	maps.DeleteFunc(of, func(home, _ gateway.Wwwroot) bool { return homes[home] })
	peers := slices.DeleteFunc(all, func(home gateway.Wwwroot) bool { return !homes[home] })
	for _, pair := range names.Collisions(peers...) {
		of[pair[0]], of[pair[1]] = pair[1], pair[0]
	}
	return of
}

// folding returns a function that makes equal what a database may take to be the
// same: MySQL's do not tell ü from u, ß from ss nor one emoji from another.
func folding() func(string) string {
	c, key := collate.New(language.Und, collate.Loose), collate.Buffer{}
	return func(s string) string {
		s = strings.TrimSpace(strings.Map(func(r rune) rune { return min(r, 0x10000) }, s))
		if s == "" {
			return ""
		}
		key.Reset()
		return string(c.KeyFromString(&key, s))
	}
}

package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// exits are all places in the program where a redirect is decided on or
// written, with what makes each of them safe and the test that proves it.
// Nothing is missing, or TestEveryRedirectIsAccountedFor fails.
var exits = map[string]struct{ by, test string }{
	// Decided on.
	"idp/jump.go Provider.land":              {"gateway.Decide, then gateway.LandLink", "TestNoTargetOfTheCorporaLeavesTheAllowlist"},
	"idp/jump.go Provider.remember":          {"our own login page", "TestTheResponseThatCompletesTheLoginIsTheJump"},
	"idp/oidcjump.go Provider.rememberLogin": {"the endpoint that the configured provider names", "TestALoginAtTheProviderEndsAtThePeer"},
	"idp/provider.go Provider.decide":        {"gateway.DecideAt: a page of our own", "TestALinkToTheSiteItselfLeadsToItsPage"},
	"idp/roam.go Provider.homeward":          {"gateway.Decide; the home is an open peer", "TestAHubSendsRemoteLearnersHome"},
	"idp/roam.go Provider.Forward":           {"gateway.Decide; our own jump address", "TestForward"},

	"sp/bounce.go Bounces.send":     {"gateway.DecideHome, or a remembered home of the same list, then gateway.JumpLink", "TestWhoIsSentHome"},
	"sp/bounce.go Bounces.Choose":   {"gateway.DecideOwn: the page itself, below our own wwwroot", "TestAChoiceIsTakenAndRemembered"},
	"sp/switch.go Landings.decided": {"gateway.DecideLanding: a page of our own, or of the home", "TestALandingOfAnotherAccountAsks"},

	"sp/logins.go Landings.logIn": {"gateway.DecideLanding, likewise", "TestATokenIsShownToItsHomeOnce"},
	"sp/logins.go Landings.enter": {"gateway.DecideLanding, likewise", "TestALearnerIsLoggedInByHeaders"},

	"sp/redeem.go Landings.Bring":         {"gateway.DecideLanding, likewise", "TestATokenIsBroughtToMoodleOnce"},
	"sp/appsessions.go Landings.enterApp": {"gateway.DecideLanding, likewise", "TestASessionAtAnApplication"},

	"sp/visits.go Visits.depart": {"the front page of the home, an open peer, whose learner has logged out", "TestWhoLogsOutHereIsLoggedOutAtHome"},

	// Moodle's own, passed on.
	"idp/guard.go Guard.Check":         {"below our own wwwroot by gateway.ParseTarget, else gateway.LandLink", "TestNothingElseLeaves"},
	"idp/pending.go Provider.keepName": {"what Moodle sent: its own login page", "TestAWrongPasswordDoesNotLoseTheTabsJump"},

	// Written.
	"web/choose.go writeDeparture":  {"Site.mayLead, in Handler.bounced and Handler.logout", "TestABounceThatStraysIsStopped"},
	"web/redirect.go writeRedirect": {"Site.mayLead, whatever was decided", "TestAStrayRedirectIsStopped"},
}

// TestEveryRedirectIsAccountedFor reads the program.
func TestEveryRedirectIsAccountedFor(t *testing.T) {
	found := map[string]bool{}
	var tests strings.Builder
	for _, room := range []string{"gateway", "idp", "sp", "web", "cmd"} {
		err := filepath.WalkDir(filepath.Join("..", "..", room), func(name string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && (d.Name() == "moodletest" || d.Name() == "openidtest" || d.Name() == "testdata"):
				return fs.SkipDir
			case strings.HasSuffix(name, "_test.go"):
				text, err := os.ReadFile(name)
				tests.Write(text)
				return err
			case !strings.HasSuffix(name, ".go"):
				return nil
			}
			return findExits(name, found)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		if _, ok := exits[name]; !ok {
			t.Errorf("%s redirects, and nobody has said by what right", name)
		}
	}
	for name, exit := range exits {
		if !found[name] {
			t.Errorf("%s does not redirect any more", name)
		}
		if !regexp.MustCompile(`(?m)^func ` + exit.test + `\(`).MatchString(tests.String()) {
			t.Errorf("%s is proved by %s, which does not exist", name, exit.test)
		}
	}
}

// leading are headers by which an answer leads elsewhere.
var leading = []string{`"Location"`, `"Refresh"`, `"Content-Location"`}

// findExits adds the functions of a file that write such a header, or fill in
// the field Location of an answer.
func findExits(name string, found map[string]bool) error {
	file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
	if err != nil {
		return err
	}
	for _, d := range file.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok {
			continue
		}
		at := strings.TrimPrefix(filepath.ToSlash(name), "../../") + " " + receiver(f) + f.Name.Name
		ast.Inspect(f, func(n ast.Node) bool {
			if redirects(n) || (strings.HasPrefix(at, "idp/") || strings.HasPrefix(at, "sp/")) && answers(n) {
				found[at] = true
			}
			return true
		})
	}
	return nil
}

func receiver(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	typ := f.Recv.List[0].Type
	if star, ok := typ.(*ast.StarExpr); ok {
		typ = star.X
	}
	if generic, ok := typ.(*ast.IndexExpr); ok {
		typ = generic.X
	}
	return typ.(*ast.Ident).Name + "."
}

func redirects(n ast.Node) bool {
	isHeader := func(e ast.Expr) bool {
		lit, ok := e.(*ast.BasicLit)
		return ok && slices.Contains(leading, lit.Value)
	}
	switch n := n.(type) {
	case *ast.CallExpr:
		called, ok := n.Fun.(*ast.SelectorExpr)
		if !ok {
			return false
		}
		setter := called.Sel.Name == "Set" || called.Sel.Name == "Add"
		return setter && len(n.Args) == 2 && isHeader(n.Args[0]) || strings.HasPrefix(called.Sel.Name, "Redirect") && isIdent(called.X, "http")
	case *ast.AssignStmt:
		return slices.ContainsFunc(n.Lhs, func(e ast.Expr) bool {
			index, ok := e.(*ast.IndexExpr)
			return ok && isHeader(index.Index)
		})
	}
	return false
}

// answers reports whether a node fills in the field Location of an Answer.
func answers(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.AssignStmt:
		return slices.ContainsFunc(n.Lhs, func(e ast.Expr) bool {
			field, ok := e.(*ast.SelectorExpr)
			return ok && field.Sel.Name == "Location"
		})
	case *ast.CompositeLit:
		return isIdent(n.Type, "Answer") && slices.ContainsFunc(n.Elts, func(e ast.Expr) bool {
			pair, ok := e.(*ast.KeyValueExpr)
			return ok && isIdent(pair.Key, "Location")
		})
	}
	return false
}

func isIdent(e ast.Expr, name string) bool {
	id, ok := e.(*ast.Ident)
	return ok && id.Name == name
}

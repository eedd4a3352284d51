package main

import (
	"bufio"
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"jumpgate/gateway"
	"jumpgate/gateway/config"
	"jumpgate/gateway/moodle"
	"jumpgate/sp"
)

type accountCommand struct {
	Query  accountsQueryCommand  `cmd:"" help:"Print the SELECT to run in Moodle's database."`
	Report accountsReportCommand `cmd:"" help:"List the accounts, what becomes of them, and what stands in the way."`
}

// tableFlags name the tables of a Moodle.
type tableFlags struct {
	Prefix string `default:"mdl_" help:"Prefix of Moodle's tables: $$CFG->prefix in its config.php (mdl_)."`
}

func (f tableFlags) tables() (moodle.Tables, error) {
	tables, err := moodle.ParseTables(f.Prefix)
	if err != nil {
		return tables, &usageError{"--prefix: " + err.Error(), "copy it from $CFG->prefix of Moodle's config.php"}
	}
	return tables, nil
}

type accountsQueryCommand struct {
	tableFlags `embed:""`
}

// Help explains more than fits a line.
func (accountsQueryCommand) Help() string {
	return "Moodle's web services do not say at which site an account is at home (mnethostid), so its database has to. The SELECT changes nothing, and runs in PostgreSQL, MySQL 8 and MariaDB. " +
		"Save its result as it is: psql --csv -f accounts.sql moodle >accounts.csv, or mysql --batch --default-character-set=utf8mb4 moodle <accounts.sql >accounts.tsv. " +
		"It has usernames and mail addresses: delete it when you are done."
}

// Run prints the query.
func (c accountsQueryCommand) Run(t *terminal) error {
	tables, err := c.tables()
	if err != nil {
		return err
	}
	_, err = io.WriteString(t.stdout, tables.AccountsQuery())
	return err
}

type accountsReportCommand struct {
	siteFlags  `embed:""`
	tableFlags `embed:""`
	Name       string `placeholder:"TEMPLATE" help:"The new names, if not those of the site's landing: {username}@{idp host}, with other characters around {idp host}, or plain, if there is exactly one home."`
	IssuerID   int64  `placeholder:"N" help:"Id of the OpenID provider in Moodle (table oauth2_issuer) that is, or will be, Jumpgate: also say who is linked to it. Not needed with landing: oauth2, whose issuer_id it is."`
	Format     string `enum:"table,csv,sql" default:"table" placeholder:"table|csv|sql" help:"table, csv, or sql: what keeps the accounts, to be read and then run: with --issuer-id linked logins, without it new names for landing: header."`
	File       string `arg:"" help:"The result of jumpgate accounts query, - for standard input."`
}

// Help explains more than fits a line.
func (accountsReportCommand) Help() string {
	return "Nothing is changed, and nobody is asked. Exit code 1 if an account needs a decision: its name is none that Moodle takes (no-name), or might be that of another home's learner (home-collision), " +
		"of another learner (same-name) or of a local account (name-taken); MNet does not let it in, which nothing but MNet asks (denied); it belongs to another plugin, such as nologin (other-auth); its mail address is that of a local account (same-mail: Moodle's OAuth2 plugin might log its learner in to that, so landing: oauth2 lets them not in) or of another learner (shared-mail); " +
		"or the issuer's name is linked to another account, or not confirmed (link-taken). An account that is linked needs none, but for its mail address."
}

// Run prints the report.
func (c accountsReportCommand) Run(t *terminal) error {
	tables, err := c.tables()
	switch {
	case err != nil:
		return err
	case c.IssuerID < 0:
		return &usageError{"--issuer-id: that is the id of no OpenID provider", "Moodle shows it in the address of its settings page (Server > OAuth 2 services)"}
	}
	loaded, err := config.Load(c.Config)
	if err != nil {
		return err
	}
	site, err := c.pick(loaded)
	if err != nil {
		return err
	}
	names, err := c.names(site)
	if err != nil {
		return err
	}
	if c.IssuerID == 0 {
		c.IssuerID = site.Landing.IssuerID
	}
	accounts, err := c.read(t, site)
	if err != nil {
		return err
	}
	orphans := sp.Orphans(accounts, site.Peers, names, c.IssuerID)
	out := bufio.NewWriter(t.stdout)
	switch c.Format {
	case "csv":
		err = orphansCSV(out, orphans)
	case "sql":
		err = orphansSQL(out, tables, orphans, accounts, c.IssuerID, time.Now())
	default:
		err = orphansTable(out, orphans)
	}
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return err
	}
	undecided := 0
	for _, o := range orphans {
		undecided += min(len(o.Problems), 1)
	}
	if undecided > 0 {
		return withHint(fmt.Errorf("%d of %d accounts need a decision", undecided, len(orphans)), "jumpgate accounts report --help explains the words in the last column")
	}
	return nil
}

// names are those by which the site logs learners in, or will.
func (c accountsReportCommand) names(site *config.Site) (gateway.AccountNames, error) {
	template := c.Name
	switch {
	case template != "":
	case site.Landing.LogsIn():
		return site.Landing.Names, nil
	default:
		template = gateway.DefaultNames
	}
	names, err := gateway.ParseAccountNames(template)
	if err != nil {
		return names, &usageError{"--name: " + err.Error(), "write {username}@{idp host}, or plain"}
	}
	return names, nil
}

// read reads the result of the query, which must be of the site.
func (c accountsReportCommand) read(t *terminal, site *config.Site) (*moodle.Accounts, error) {
	in := t.stdin
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return nil, withHint(err, "give the result of jumpgate accounts query, or - for standard input")
		}
		defer f.Close()
		in = f
	}
	accounts, err := moodle.ReadAccounts(in)
	if err != nil {
		return nil, withHint(fmt.Errorf("%s: %w", c.File, err), "jumpgate accounts query --help says how to save the result of the query; nothing in it may be changed")
	}
	own := &gateway.Peer{Wwwroot: site.Wwwroot, Aliases: site.Aliases}
	if w, err := gateway.ParseWwwroot(accounts.Wwwroot); err != nil || !own.Is(w) {
		return nil, withHint(fmt.Errorf("%s is about %q, not %s", c.File, accounts.Wwwroot, site.Wwwroot),
			"run the query in the database of that site's Moodle; if it is a former address of the site, list it under aliases")
	}
	return accounts, nil
}

// orphanPeer returns what the home of an account is to the site.
func orphanPeer(o sp.Orphan) string {
	if o.Peer == nil {
		return "no peer"
	}
	return o.Peer.Label()
}

// orphanState returns what is to be known of an account.
func orphanState(o sp.Orphan) string {
	var words []string
	if o.Suspended {
		words = append(words, "suspended")
	}
	if o.LastAccess == 0 {
		words = append(words, "never here")
	}
	if o.Linked {
		words = append(words, "linked")
	}
	return strings.Join(words, ", ")
}

// orphanLinks returns the linked logins that an account has now.
func orphanLinks(o sp.Orphan) string {
	var links []string
	for _, l := range o.Links {
		link := fmt.Sprintf("%d:%s", l.IssuerID, l.Username)
		if !l.Confirmed {
			link += " (not confirmed)"
		}
		links = append(links, link)
	}
	return strings.Join(links, ", ")
}

func orphanProblems(o sp.Orphan) string {
	var all []string
	for _, p := range o.Problems {
		all = append(all, p.String())
	}
	return strings.Join(all, ", ")
}

// orphansTable prints how many accounts each home has, and then all of them.
func orphansTable(out io.Writer, orphans []sp.Orphan) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "HOME\tPEER\tACCOUNTS\tSUSPENDED\tNEVER HERE\tLINKED\tTO DECIDE")
	for i := 0; i < len(orphans); {
		first := orphans[i]
		var accounts, suspended, never, linked, decide int
		for ; i < len(orphans) && orphans[i].Home == first.Home && (!first.Home.IsZero() || orphans[i].Wwwroot == first.Wwwroot); i++ {
			o := orphans[i]
			accounts++
			suspended += one(o.Suspended)
			never += one(o.LastAccess == 0)
			linked += one(o.Linked)
			decide += one(len(o.Problems) > 0)
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%d\t%d\n", orphanHome(first), dash(orphanPeer(first)), accounts, suspended, never, linked, decide)
	}
	if err := w.Flush(); err != nil || len(orphans) == 0 {
		return err
	}
	w = tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nID\tUSERNAME\tHOME\tNEW NAME\tSTATE\tLINKS\tTO DECIDE")
	for _, o := range orphans {
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\t%s\n", o.ID, shown(o.Username), orphanHome(o), dash(o.Name), dash(orphanState(o)), dash(orphanLinks(o)), dash(orphanProblems(o)))
	}
	return w.Flush()
}

// one counts what is.
func one(is bool) int {
	if is {
		return 1
	}
	return 0
}

// orphanHome returns the wwwroot of an account's home, whatever it is.
func orphanHome(o sp.Orphan) string {
	if o.Home.IsZero() {
		return shown(o.Wwwroot)
	}
	return o.Home.String()
}

// orphansCSV prints all accounts for a table program.
func orphansCSV(out io.Writer, orphans []sp.Orphan) error {
	w := csv.NewWriter(out)
	if err := w.Write([]string{"id", "username", "auth", "home", "peer", "name", "state", "lastaccess", "links", "problems"}); err != nil {
		return err
	}
	for _, o := range orphans {
		last := ""
		if o.LastAccess != 0 {
			last = time.Unix(o.LastAccess, 0).UTC().Format(time.DateOnly)
		}
		row := []string{strconv.FormatInt(o.ID, 10), o.Username, o.Auth, orphanHome(o), orphanPeer(o), o.Name, orphanState(o), last, orphanLinks(o), orphanProblems(o)}
		for i := range row {
			row[i] = cell(row[i])
		}
		if err := w.Write(row); err != nil {
			return err
		}
	}
	w.Flush()
	return w.Error()
}

// orphansSQL prints what keeps the accounts: linked logins of an issuer or, if
// there is none, new names. Nothing that anybody wrote into an account gets into
// it. What needs a decision is a comment that remains none if only its dashes are
// taken away.
func orphansSQL(out io.Writer, tables moodle.Tables, orphans []sp.Orphan, accounts *moodle.Accounts, issuerID int64, now time.Time) error {
	fmt.Fprintf(out, "-- Keeps the accounts of learners of other sites, for a Moodle without MNet. Read it before you run it.\n"+
		"-- Lines that begin with a reason need a decision of yours, or their home is no peer.\n"+
		"-- Suspended accounts are kept too: their learners would get new ones otherwise.\n\n")
	statement := func(o sp.Orphan) (string, error) {
		return tables.MakeLocal(o.RemoteAccount, accounts.LocalHostID, o.Name)
	}
	if issuerID == 0 {
		fmt.Fprint(out, "-- For landing: header: the accounts become local ones with new names, and do not land by MNet any more.\n\n")
	} else {
		fmt.Fprintf(out, "-- For landing: oauth2. This must show Jumpgate, or the rest does nothing good:\n%s\n\n", tables.Issuer(issuerID))
		statement = func(o sp.Orphan) (string, error) { return tables.LinkLogin(o.RemoteAccount, issuerID, o.Name, now) }
	}
	fmt.Fprintln(out, "START TRANSACTION;")
	if err := statements(out, orphans, statement); err != nil {
		return err
	}
	_, err := fmt.Fprintln(out, "COMMIT;")
	return err
}

// statements prints one line for each account that has a name and is not linked.
func statements(out io.Writer, orphans []sp.Orphan, statement func(sp.Orphan) (string, error)) error {
	for _, o := range orphans {
		if o.Linked {
			continue
		}
		reason := orphanProblems(o)
		if o.Peer == nil {
			reason = strings.TrimPrefix(reason+", no peer", ", ")
		}
		if o.Name == "" {
			fmt.Fprintf(out, "-- account %d: %s\n", o.ID, reason)
			continue
		}
		line, err := statement(o)
		if err != nil {
			return fmt.Errorf("account %d: %w", o.ID, err)
		}
		if reason != "" {
			line = "-- " + reason + ": " + line
		}
		if _, err := fmt.Fprintln(out, line); err != nil {
			return err
		}
	}
	return nil
}

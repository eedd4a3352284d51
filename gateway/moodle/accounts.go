package moodle

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Accounts is what a Moodle's database knows about the accounts of learners of
// other MNet hosts, and what they could be taken for (AccountsQuery).
type Accounts struct {
	Wwwroot     string          // of the Moodle itself, as its row in mnet_host has it
	LocalHostID int64           // mnet_localhost_id
	Remote      []RemoteAccount // that are not deleted
	Local       []LocalAccount  // that share a name or a mail address with one of Remote, or might with its new name
	Links       []LinkedLogin   // of Remote, and those with a name that one of Remote might get
}

// RemoteAccount is a row of the table user whose mnethostid is another host's.
type RemoteAccount struct {
	ID         int64
	Username   string
	Auth       string // mnet, unless somebody changed it
	MnetHostID int64
	Wwwroot    string // of its home; empty if mnet_host has no such row
	Email      string
	Suspended  bool
	Denied     bool  // by Moodle's access control for MNet (mnet_sso_access_control), the one way to lock it there
	LastAccess int64 // Unix time; 0 for never
}

// LocalAccount is a row of the table user whose mnethostid is our own.
type LocalAccount struct {
	ID       int64
	Username string
	Auth     string
	Email    string
}

// LinkedLogin is a row of auth_oauth2_linked_login: whoever the issuer calls
// Username is logged in as the account UserID (source).
type LinkedLogin struct {
	UserID    int64
	IssuerID  int64
	Username  string
	Confirmed bool // if not, the plugin refuses whoever has the name
}

// Bounds of what ReadAccounts takes.
const (
	maxAccountLine  = 8 << 10 // the columns hold 1,000 characters at most
	maxAccountLines = 2_000_000
)

// accountColumns are the columns of AccountsQuery. Kind says what a row is:
// confirming (a link that waits for that), denied (remote, and locked), link,
// local, remote or site. The id of
// a link is that of its account.
const accountColumns = "kind,id,username,auth,mnethostid,wwwroot,email,suspended,lastaccess,issuerid"

// ReadAccounts reads the result of AccountsQuery: CSV with a header, as psql
// --csv writes it, or what mysql --batch does, with its escapes. It takes
// nothing that the query does not give, and names the line.
func ReadAccounts(r io.Reader) (*Accounts, error) {
	lines := bufio.NewReaderSize(r, maxAccountLine)
	a := &Accounts{}
	var split func(string) ([]string, error)
	seen := map[[2]int64]bool{}
	for n := 1; ; n++ {
		line, err := accountLine(lines)
		switch {
		case errors.Is(err, io.EOF) && a.LocalHostID != 0:
			return a, nil
		case errors.Is(err, io.EOF):
			return nil, errors.New("the result of the query is not complete: the row of the site itself is missing")
		case err == nil && n > maxAccountLines:
			err = fmt.Errorf("there are more than %d", maxAccountLines)
		case err != nil:
		case n == 1:
			split, err = accountFormat(line)
		default:
			var fields []string
			if fields, err = split(line); err == nil {
				err = a.add(fields, seen)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
	}
}

// accountLine reads a line, whichever way it ends.
func accountLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	switch {
	case errors.Is(err, bufio.ErrBufferFull):
		return "", fmt.Errorf("it is longer than %d bytes", maxAccountLine)
	case errors.Is(err, io.EOF) && len(line) > 0:
		return "", errors.New("its end is missing")
	case err != nil:
		return "", err
	case !utf8.Valid(line):
		return "", errors.New("it is not UTF-8")
	case bytes.IndexByte(line, 0) >= 0:
		return "", errors.New("it holds a NUL")
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(line), "\n"), "\r"), nil
}

// accountFormat returns what splits lines below this header.
func accountFormat(header string) (func(string) ([]string, error), error) {
	switch header {
	case accountColumns:
		return func(line string) ([]string, error) {
			r := csv.NewReader(strings.NewReader(line))
			fields, err := r.Read()
			if wrong, ok := errors.AsType[*csv.ParseError](err); ok {
				err = wrong.Err // its line is not ours
			}
			if errors.Is(err, io.EOF) {
				err = errors.New("it is empty")
			}
			return fields, err
		}, nil
	case strings.ReplaceAll(accountColumns, ",", "\t"):
		return func(line string) ([]string, error) {
			fields := strings.Split(line, "\t")
			for i := range fields {
				var err error
				if fields[i], err = unescapeBatch(fields[i]); err != nil {
					return nil, err
				}
			}
			return fields, nil
		}, nil
	}
	return nil, errors.New("these are not the columns of the query")
}

// unescapeBatch takes off the escapes of mysql --batch.
func unescapeBatch(s string) (string, error) {
	var b strings.Builder
	for {
		text, rest, found := strings.Cut(s, `\`)
		b.WriteString(text)
		if !found {
			return b.String(), nil
		}
		if rest == "" || !strings.Contains(`nt0\`, rest[:1]) {
			return "", errors.New("it has a backslash that mysql --batch would have escaped")
		}
		b.WriteByte(map[byte]byte{'n': '\n', 't': '\t', '0': 0, '\\': '\\'}[rest[0]])
		s = rest[1:]
	}
}

// add takes a row. Those of accounts that were seen must not come again.
func (a *Accounts) add(f []string, seen map[[2]int64]bool) error {
	columns := strings.Split(accountColumns, ",")
	if len(f) != len(columns) {
		return fmt.Errorf("it has %d columns, not %d", len(f), len(columns))
	}
	numbers := map[string]int64{}
	for _, name := range []string{"id", "mnethostid", "suspended", "lastaccess", "issuerid"} {
		value := f[slices.Index(columns, name)]
		n, err := strconv.ParseUint(value, 10, 63)
		if err != nil || strconv.FormatUint(n, 10) != value {
			return fmt.Errorf("%s is not a number: %q", name, value)
		}
		numbers[name] = int64(n)
	}
	id, kind := numbers["id"], f[0]
	if id == 0 || numbers["suspended"] > 1 {
		return errors.New("the id is 0, or suspended is neither 0 nor 1")
	}
	if a.LocalHostID != 0 {
		return errors.New("the row of the site itself has been, which is the last")
	}
	if account := [2]int64{0, id}; kind == "remote" || kind == "denied" || kind == "local" {
		if seen[account] {
			return fmt.Errorf("the account %d is there twice", id)
		}
		seen[account] = true
	}
	switch kind {
	case "site":
		a.Wwwroot, a.LocalHostID = f[5], id
	case "remote", "denied":
		a.Remote = append(a.Remote, RemoteAccount{
			ID: id, Username: f[2], Auth: f[3], MnetHostID: numbers["mnethostid"], Wwwroot: f[5], Email: f[6],
			Suspended: numbers["suspended"] == 1, Denied: kind == "denied", LastAccess: numbers["lastaccess"],
		})
	case "local":
		a.Local = append(a.Local, LocalAccount{ID: id, Username: f[2], Auth: f[3], Email: f[6]})
	case "link", "confirming":
		a.Links = append(a.Links, LinkedLogin{UserID: id, IssuerID: numbers["issuerid"], Username: f[2], Confirmed: kind == "link"})
	default:
		return fmt.Errorf("there is no kind %q", kind)
	}
	return nil
}

package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"jumpgate/gateway/audit"
	"jumpgate/gateway/mnet"
)

type keyCommand struct {
	Show   keyShowCommand   `cmd:"" help:"Show the MNet keys of a site."`
	Rotate keyRotateCommand `cmd:"" help:"Make a new key for a site; its peers learn it by themselves."`
	Import keyImportCommand `cmd:"" help:"Make a key from elsewhere the site's own."`
	Export keyExportCommand `cmd:"" help:"Write the site's key or its certificate."`
}

type keyShowCommand struct {
	siteFlags `embed:""`
	JSON      bool `help:"Print JSON."`
}

// keyState is what key show prints of a key.
type keyState struct {
	State       string    `json:"state"` // current or archived
	Fingerprint string    `json:"fingerprint"`
	NotBefore   time.Time `json:"notbefore"`
	NotAfter    time.Time `json:"notafter"`
}

// Run prints the current key and those that still open late messages.
func (c keyShowCommand) Run(t *terminal) error {
	d, err := c.open(t)
	if err != nil {
		return err
	}
	defer d.close()
	var states []keyState
	for i, key := range d.keys.Keys() {
		cert := key.Certificate()
		s := keyState{"archived", cert.Fingerprint().String(), cert.NotBefore.UTC(), cert.NotAfter.UTC()}
		if i == 0 {
			s.State = "current"
		}
		states = append(states, s)
	}
	if c.JSON {
		return json.NewEncoder(t.stdout).Encode(states)
	}
	w := tabwriter.NewWriter(t.stdout, 0, 0, 2, ' ', 0)
	for _, s := range states {
		fmt.Fprintf(w, "%s\t%s\tvalid %s to %s\n", s.State, s.Fingerprint, s.NotBefore.Format(time.DateOnly), s.NotAfter.Format(time.DateOnly))
	}
	return w.Flush()
}

// keyTime is how long a command waits for the other gateways' agreement.
const keyTime = 10 * time.Second

// keyHinted adds what to do about an error of a change of keys.
func keyHinted(err error) error {
	if _, ok := errors.AsType[*mnet.OtherKeyError](err); ok {
		return withHint(err, otherKeyHint)
	}
	if errors.Is(err, mnet.ErrSeparateStates) {
		return withHint(err, "give them all the same state_dir, or the same mnet.key_secret_file")
	}
	return withHint(err, "is Redis up, and may this account write to the state directory?")
}

type keyRotateCommand struct {
	siteFlags `embed:""`
}

// Help explains more than fits a line.
func (keyRotateCommand) Help() string {
	return "Running gateways take the new key up within seconds. Peers that still use the old one are told of the new one when they call, signed with the old one; the last six are kept for that."
}

// Run makes a new key.
func (c keyRotateCommand) Run(t *terminal) error {
	d, err := c.open(t)
	if err != nil {
		return err
	}
	defer d.close()
	before := d.keys.Current()
	ctx, cancel := context.WithTimeout(t.ctx, keyTime)
	defer cancel()
	if err := d.keys.Rotate(ctx); err != nil {
		return keyHinted(err)
	}
	return d.changedKey(t, "key rotate", before)
}

// changedKey says which key counts now, and records it if it is another one.
func (d *desk) changedKey(t *terminal, command string, before *mnet.Key) error {
	var recorded error
	if now := d.keys.Current().Certificate().Fingerprint(); now != before.Certificate().Fingerprint() {
		recorded = d.record(command, audit.Event{Detail: now.String() + " instead of " + before.Certificate().Fingerprint().String()})
	}
	return cmp.Or(sayKey(t, d.keys, before), recorded)
}

// sayKey tells what became of a change, once running gateways have taken it up:
// until then they would contradict whoever asks a peer with the new key.
func sayKey(t *terminal, keys *mnet.Keyring, before *mnet.Key) error {
	now := keys.Current().Certificate()
	if now.Fingerprint() == before.Certificate().Fingerprint() {
		_, err := fmt.Fprintf(t.stdout, "%s has the key %s already\n", keys.Site, now.Fingerprint())
		return err
	}
	if keys.Accompanied() {
		select {
		case <-time.After(mnet.SettleTime):
		case <-t.ctx.Done():
		}
	}
	_, err := fmt.Fprintf(t.stdout, "%s has the key %s now, until %s; before, it was %s\n",
		keys.Site, now.Fingerprint(), now.NotAfter.UTC().Format(time.DateOnly), before.Certificate().Fingerprint())
	return err
}

type keyImportCommand struct {
	siteFlags `embed:""`
	Current   bool   `help:"Make the key of this state directory the one that the site's gateways agree on."`
	File      string `arg:"" optional:"" help:"Certificate and private key: PEM, or as Moodle stores them (certificate@@@@@@@@key); - for standard input."`
}

// Help explains more than fits a line.
func (keyImportCommand) Help() string {
	return "A site that had MNet before keeps its identity by its key: what Moodle's table config_plugins holds as openssl of the plugin mnet. The former key is archived."
}

// Run takes up a key.
func (c keyImportCommand) Run(t *terminal) error {
	if c.Current == (c.File != "") {
		return &usageError{"name a file, or say --current", "give a file with certificate and private key, or - for standard input"}
	}
	d, err := c.open(t)
	if err != nil {
		return err
	}
	defer d.close()
	before := d.keys.Current()
	key := before
	if !c.Current {
		if key, err = c.read(t, d); err != nil {
			return withHint(err, keyHint)
		}
	}
	ctx, cancel := context.WithTimeout(t.ctx, keyTime)
	defer cancel()
	if err := d.keys.Import(ctx, key); err != nil {
		return keyHinted(err)
	}
	return d.changedKey(t, "key import", before)
}

func (c keyImportCommand) read(t *terminal, d *desk) (*mnet.Key, error) {
	if c.File != "-" {
		return mnet.LoadKey(c.File, d.site.Wwwroot, d.site.Aliases...)
	}
	b, err := io.ReadAll(io.LimitReader(t.stdin, maxKeyFile))
	if err != nil {
		return nil, err
	}
	key, err := mnet.ParseKey(b)
	if err != nil {
		return nil, fmt.Errorf("standard input: %w", err)
	}
	if !key.Certificate().Names(d.site.Wwwroot) && !key.Certificate().Names(d.site.Aliases...) {
		return nil, fmt.Errorf("standard input: the key's certificate names another site than %s", d.site.Wwwroot)
	}
	return key, nil
}

type keyExportCommand struct {
	siteFlags `embed:""`
	Private   bool   `help:"Write the private key too. Whoever has it can speak for the site."`
	Output    string `short:"o" placeholder:"FILE" help:"File to make; required with --private, which is never printed."`
}

// Run writes PEM.
func (c keyExportCommand) Run(t *terminal) error {
	if c.Private && c.Output == "" {
		return &usageError{"a private key is not printed", "name a file with --output"}
	}
	d, err := c.open(t)
	if err != nil {
		return err
	}
	defer d.close()
	pem := []byte(d.keys.Current().Certificate().PEM())
	if c.Private {
		pem = d.keys.Current().PEM()
	}
	if c.Output == "" {
		_, err := t.stdout.Write(pem)
		return err
	}
	f, err := os.OpenFile(c.Output, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return withHint(err, "name a file that does not exist yet")
	}
	_, err = f.Write(pem)
	if err = errors.Join(err, f.Close()); err != nil || !c.Private {
		return err
	}
	return d.record("key export --private", audit.Event{Detail: d.keys.Current().Certificate().Fingerprint().String()})
}

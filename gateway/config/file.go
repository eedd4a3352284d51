package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"strings"
)

// read reads the file that a field names. The name of the field is in the
// message when it cannot.
func (o object) read(key, name string) ([]byte, bool) {
	b, err := readFile(name, maxFile, false)
	return b, o.readable(key, name, err)
}

// readSecret is read for a file that nobody but its owner and group may see.
func (o object) readSecret(key, name string) ([]byte, bool) {
	b, err := readFile(name, maxFile, true)
	return b, o.readable(key, name, err)
}

func (o object) readable(key, name string, err error) bool {
	hint := "a relative name is relative to the file that names it"
	if _, open := errors.AsType[openError](err); open {
		hint = fmt.Sprintf("chmod o= %s; for a Kubernetes secret set defaultMode: 0440", name)
	} else if errors.Is(err, fs.ErrPermission) {
		hint = "let the account that runs the gateway read it"
	}
	if err != nil {
		o.errorf(o.place(key), hint, "cannot read %q: %s: %s", key, name, reason(err))
	}
	return err == nil
}

// secret reads a secret from the file or the environment variable that the
// fields name, and returns their names too.
func (o object) secret(fileKey, envKey string) (secret Secret, file, env string) {
	file, env = o.path(fileKey), o.text(envKey, "")
	key, text := fileKey, ""
	switch {
	case file != "" && env != "":
		o.errorf(o.place(envKey), "keep one of them", "%q and %q are both given", fileKey, envKey)
		return "", "", ""
	case file != "":
		b, ok := o.readSecret(fileKey, file)
		if !ok {
			return "", file, ""
		}
		text = string(b)
	case env != "":
		key, text = envKey, os.Getenv(env)
	default:
		return "", "", ""
	}
	text = strings.TrimRight(text, "\r\n")
	switch {
	case text == "" && file != "":
		o.errorf(o.place(key), "write the secret into it, on one line", "cannot use %q: %s is empty", key, file)
	case text == "":
		o.errorf(o.place(key), "export it for the gateway, or use "+fileKey,
			"cannot use %q: the environment variable %s is empty or not set", key, env)
	case strings.ContainsAny(text, "\r\n\x00"):
		o.errorf(o.place(key), "write nothing else with it", "cannot use %q: the secret has more than one line", key)
		text = ""
	}
	return Secret(text), file, env
}

// openError is the complaint about a secret that everybody may read.
type openError struct{ mode fs.FileMode }

func (e openError) Error() string {
	return fmt.Sprintf("every account of this machine may use this secret (mode %04o)", e.mode.Perm())
}

// readFile reads a regular file of at most limit bytes.
func readFile(name string, limit int64, secret bool) ([]byte, error) {
	// Asked before it is opened: opening a named pipe would wait.
	if info, err := os.Stat(name); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, errors.New("not a file")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if secret && runtime.GOOS != "windows" && info.Mode().Perm()&0o007 != 0 {
		return nil, openError{info.Mode()}
	}
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		return nil, fmt.Errorf("larger than %d KiB", limit>>10)
	}
	return b, err
}

// reason is what went wrong with a file, without the name of the file.
func reason(err error) error {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		return e.Err
	}
	return err
}

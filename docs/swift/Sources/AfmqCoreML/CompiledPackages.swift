#if canImport(CoreML)
    import CoreML
    import Foundation

    /// Compiled packages, kept between runs.
    ///
    /// Core ML runs `.mlmodelc` directories. Compiling a package copies its weights, so it is done
    /// once for each version of a package.
    struct CompiledPackages: Sendable {
        let folder: URL

        /// In the user's caches, which the system may empty.
        static var standard: CompiledPackages {
            get throws {
                let caches = try FileManager.default.url(
                    for: .cachesDirectory, in: .userDomainMask, appropriateFor: nil, create: true)
                return CompiledPackages(folder: caches.appending(path: "afmq-compiled"))
            }
        }

        /// The compiled form of a package.
        func compiled(_ package: URL) async throws -> URL {
            if package.pathExtension == "mlmodelc" { return package }
            let target = folder.appending(path: try name(of: package))
            let files = FileManager.default
            if files.fileExists(atPath: target.path) { return target }

            let temporary = try await MLModel.compileModel(at: package)
            try files.createDirectory(at: folder, withIntermediateDirectories: true)
            if files.fileExists(atPath: target.path) {  // another process was faster
                try files.removeItem(at: temporary)
            } else {
                try files.moveItem(at: temporary, to: target)
            }
            return target
        }

        /// A name that changes when the package is written again.
        private func name(of package: URL) throws -> String {
            let manifest = package.appending(path: "Manifest.json")
            let attributes = try FileManager.default.attributesOfItem(atPath: manifest.path)
            let written = attributes[.modificationDate] as? Date ?? .distantPast
            let time = Int(written.timeIntervalSince1970 * 1e6)
            return "\(package.deletingPathExtension().lastPathComponent)-\(time).mlmodelc"
        }
    }
#endif

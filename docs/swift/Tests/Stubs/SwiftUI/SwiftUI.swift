// A stand-in for Apple's SwiftUI, for builds on Linux. It declares what this package uses and
// draws nothing. It is no part of any product.

import Foundation

@MainActor public protocol View {
    associatedtype Body: View
    @ViewBuilder var body: Body { get }
}

public struct Hidden: View {
    public var body: Hidden { self }
}

@resultBuilder public enum ViewBuilder {
    public static func buildBlock(_ views: any View...) -> Hidden { Hidden() }
    public static func buildExpression(_ view: some View) -> Hidden { Hidden() }
    public static func buildOptional(_ view: Hidden?) -> Hidden { Hidden() }
    public static func buildEither(first: Hidden) -> Hidden { first }
    public static func buildEither(second: Hidden) -> Hidden { second }
}

@MainActor public protocol Scene {}

@MainActor public protocol App {
    associatedtype Body: Scene
    var body: Body { get }
    init()
}

extension App {
    public static func main() { _ = Self().body }
}

public struct WindowGroup: Scene {
    public init(_ title: String, @ViewBuilder content: () -> Hidden) {}
}

@MainActor @propertyWrapper public struct State<Value> {
    private let value: Value
    public init(wrappedValue: Value) { value = wrappedValue }
    public var wrappedValue: Value {
        get { value }
        nonmutating set {}
    }
    public var projectedValue: Binding<Value> { Binding(value: value) }
}

@MainActor @dynamicMemberLookup public struct Binding<Value> {
    let value: Value

    public subscript<Subject>(
        dynamicMember keyPath: WritableKeyPath<Value, Subject>
    ) -> Binding<Subject> {
        Binding<Subject>(value: value[keyPath: keyPath])
    }
}

public enum HorizontalAlignment { case leading }
public struct Alignment: Sendable { public static let leading = Alignment() }

public struct VStack: View {
    public init(
        alignment: HorizontalAlignment, spacing: Double?, @ViewBuilder content: () -> Hidden
    ) {}
    public var body: Hidden { Hidden() }
}

public struct HStack: View {
    public init(@ViewBuilder content: () -> Hidden) {}
    public var body: Hidden { Hidden() }
}

public struct ScrollView: View {
    public init(@ViewBuilder content: () -> Hidden) {}
    public var body: Hidden { Hidden() }
}

public struct Text: View {
    public init(_ text: String) {}
    public var body: Hidden { Hidden() }
}

public struct ProgressView: View {
    public init() {}
    public var body: Hidden { Hidden() }
}

public struct Button: View {
    public init(_ title: String, action: @escaping @MainActor () -> Void) {}
    public var body: Hidden { Hidden() }
}

public struct TextField: View {
    public init(_ title: String, text: Binding<String>) {}
    public var body: Hidden { Hidden() }
}

public struct Picker<Selection: Hashable>: View {
    public init(
        _ title: String, selection: Binding<Selection>, @ViewBuilder content: () -> Hidden
    ) {}
    public var body: Hidden { Hidden() }
}

public struct ForEach<Data: RandomAccessCollection, ID: Hashable>: View {
    public init(
        _ data: Data, id: KeyPath<Data.Element, ID>,
        @ViewBuilder content: @escaping (Data.Element) -> Hidden
    ) {}
    public var body: Hidden { Hidden() }
}

public struct Color: Sendable { public static let red = Color() }
public struct TextFieldStyle: Sendable { public static let roundedBorder = TextFieldStyle() }
public struct TextSelectability: Sendable { public static let enabled = TextSelectability() }
public struct UTType: Sendable { public static let folder = UTType() }

extension View {
    public func padding() -> some View { self }
    public func disabled(_ disabled: Bool) -> some View { self }
    public func frame(maxWidth: Double?, alignment: Alignment) -> some View { self }
    public func foregroundStyle(_ color: Color) -> some View { self }
    public func textSelection(_ selectability: TextSelectability) -> some View { self }
    public func textFieldStyle(_ style: TextFieldStyle) -> some View { self }
    public func onSubmit(_ action: @escaping () -> Void) -> some View { self }
    public func tag<Value: Hashable>(_ tag: Value) -> some View { self }
    public func fileImporter(
        isPresented: Binding<Bool>, allowedContentTypes: [UTType],
        onCompletion: @escaping (Result<URL, any Error>) -> Void
    ) -> some View { self }
}

// Of Foundation on Apple's systems.
extension URL {
    public func startAccessingSecurityScopedResource() -> Bool { false }
    public func stopAccessingSecurityScopedResource() {}
}
